FROM base
ARG U=1000
COPY --chown=$U:users a /
COPY --chown=root --chmod=755 a /
COPY --chmod=u=rwX,go+r a /
COPY --exclude=*.tmp --exclude=!keep.tmp src /src
COPY --parents a/b/c ./x/./y/*.c /p/
COPY --parents --chown=5:6 /abs/./deep/file .
COPY --chmod=07777 a /
