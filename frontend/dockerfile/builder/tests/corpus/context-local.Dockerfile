FROM dir AS d
FROM scratch
COPY --from=d a/b /x
COPY --from=src c d /y/
COPY local /z
