FROM base
EXPOSE 80/foo
