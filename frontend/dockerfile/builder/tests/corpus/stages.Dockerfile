FROM base AS build
WORKDIR /src
COPY main.c .
RUN cc -o /out main.c
FROM base AS unused
RUN never
FROM scratch
COPY --from=build /out /bin/out
COPY --from=0 /src/log /
