FROM base
COPY --form=x a /a
