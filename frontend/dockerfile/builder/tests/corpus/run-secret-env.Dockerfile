FROM base
RUN --mount=type=secret,id=e,env x
