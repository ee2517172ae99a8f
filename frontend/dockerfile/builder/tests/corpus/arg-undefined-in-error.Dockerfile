FROM base
RUN true
ARG A=${UNSET:oops}
