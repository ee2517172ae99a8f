FROM base
COPY --from=other:1 /bin/tool /bin/
COPY --from=other:1 /etc /etc
