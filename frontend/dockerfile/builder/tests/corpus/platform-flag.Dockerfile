FROM --platform=linux/arm64 base AS a
RUN x
FROM --platform=linux/arm/v7 base AS linux-b
RUN y
FROM scratch
COPY --from=a / /a
COPY --from=linux-b / /b
