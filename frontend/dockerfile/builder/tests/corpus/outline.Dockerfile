# VERSION of the thing
ARG VERSION=1
ARG FULL=$VERSION-x
# build makes it
FROM base AS build
ARG FULL
# LEVEL of noise
ARG LEVEL=2
RUN --mount=type=secret,id=a,required --mount=type=ssh,id=k x
FROM base AS other
ARG UNUSED
FROM build
COPY --from=other / /
RUN --mount=type=secret,id=b --mount=type=cache,target=/c y
