FROM base AS build
RUN x
FROM base
WORKDIR /w
COPY --link a /a
COPY --link --from=build --chown=7:8 /out/ /out/
ADD --link b.tar /b/
COPY --link --chmod=644 c /c
FROM scratch
COPY --link a /a
COPY --link b /b
