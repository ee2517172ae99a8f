FROM base AS app
RUN x
FROM app
COPY --from=tool /t /t
