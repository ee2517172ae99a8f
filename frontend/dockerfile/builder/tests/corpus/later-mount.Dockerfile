FROM base AS a
RUN --mount=from=b,target=/b x
FROM base AS b
RUN y
