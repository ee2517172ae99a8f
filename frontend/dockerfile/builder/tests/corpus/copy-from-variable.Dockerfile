ARG X=base
FROM base
COPY --from=$X /a /b
