FROM scratch
COPY --from=repo a /a
