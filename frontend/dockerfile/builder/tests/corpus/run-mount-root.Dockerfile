FROM base
RUN --mount=target=/ x
