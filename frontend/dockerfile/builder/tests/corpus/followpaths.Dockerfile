FROM base
COPY b/c a ./d/ /x/
ADD e.tar /y
RUN --mount=source=f/g,target=/g ls
RUN --mount=type=cache,target=/c x
