FROM base AS out
WORKDIR /w
COPY --link a /a
COPY --link b c/ /d/
RUN x
