FROM base
ARG X
RUN echo ${X} ${Y}
ENV Z=$Q
