FROM base AS Build
RUN x
FROM bUILD as Other
RUN y
