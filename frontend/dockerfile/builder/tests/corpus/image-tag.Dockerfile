FROM registry.test:5000/team/app:1.2 AS app
USER nobody
RUN id
