FROM base
RUN a
FROM base
COPY --from=0 /a /b
COPY --from=base /c /d
COPY --from=7 /x /y
