FROM base
RUN x
COPY a /a
