FROM base
RUN echo shell form && \
    echo second
RUN ["echo", "exec", "form $HOME"]
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
RUN false | true
RUN ["true"]
