FROM base
RUN --device=vendor.test/dev=all,required x
