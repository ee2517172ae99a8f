FROM base
ARG A=${B:?must be set}
RUN x
