FROM scratch
WORKDIR rel
WORKDIR /abs
