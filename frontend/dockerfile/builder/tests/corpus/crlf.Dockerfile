FROM base
RUN a \
  b
COPY <<EOF /x
one
EOF
