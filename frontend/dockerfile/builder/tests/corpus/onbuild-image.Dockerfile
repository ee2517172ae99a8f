FROM triggers
RUN own
