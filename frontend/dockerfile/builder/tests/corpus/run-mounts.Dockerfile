FROM base AS tools
RUN x
FROM base
ARG DIR=cache
WORKDIR /w
RUN --mount=target=/ctx ls
RUN --mount=type=bind,source=src,target=in,rw make
RUN --mount=type=bind,from=tools,source=/usr,dst=/tools,ro=false make
RUN --mount=type=bind,from=other,target=/other make
RUN --mount=type=cache,target=/var/$DIR make
RUN --mount=type=cache,id=named,target=rel,sharing=locked,uid=1000,gid=1001,mode=0700 make
RUN --mount=type=cache,target=/c,from=tools,source=/seed,sharing=private make
RUN --mount=type=cache,target=/c,from=tools,uid=5 make
RUN --mount=type=cache,target=/ro,ro make
RUN --mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/u,size=64m make
