FROM base
COPY --chmod=999 a /a
