FROM base AS app
RUN x
FROM app
RUN y
