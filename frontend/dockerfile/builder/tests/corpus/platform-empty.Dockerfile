FROM --platform=$NOSUCH base
RUN x
