FROM --platform=$TARGETPLATFORM base
RUN x
