FROM base
ENV A=1 B="two words" C=three\ words
ENV LEGACY some old value
ENV PATH=/opt/bin:$PATH D=${A}${B} \$E="esc" 
RUN env
