FROM base
RUN make
