FROM base AS parent
ONBUILD ENV A=1
ONBUILD RUN trigger $A
ONBUILD COPY --from=other /x /y
ONBUILD RUN <<EOF
doc
EOF
FROM parent AS child
RUN own
FROM child
RUN grandchild
