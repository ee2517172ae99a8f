FROM base
COPY --chmod=u+q a /a
