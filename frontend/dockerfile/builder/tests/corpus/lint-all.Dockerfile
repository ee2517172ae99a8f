from base as Bad
run x
Copy a /a
ENV PASSWORD=x TOKEN_FILE=/y
ARG api_key
FROM base AS scratch
FROM base AS context
MAINTAINER me
FROM base AS context
CMD x
WORKDIR rel
RUN a \

   b
