FROM base
RUN --network=none a
RUN --network=host b
RUN --network=default c
RUN --security=insecure d
RUN --security=sandbox e
