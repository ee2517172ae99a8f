FROM base
WORKDIR /w
COPY a /a
RUN x
