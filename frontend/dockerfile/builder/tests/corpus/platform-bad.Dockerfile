FROM --platform=linux/a/b/c base
RUN x
