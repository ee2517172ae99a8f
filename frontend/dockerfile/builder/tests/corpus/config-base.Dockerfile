FROM full
RUN x
