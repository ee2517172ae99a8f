# syntax=docker.test/frontend:1 extra
FROM base
RUN x
