FROM bace
RUN x
