FROM base
RUN x
