FROM base
USER app
RUN a
USER 0:0
COPY x /x
USER ${U:-last}
