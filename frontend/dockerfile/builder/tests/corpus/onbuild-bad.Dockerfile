FROM badtriggers
RUN own
