FROM base
RUN --mount=type=secret,id=token cat /run/secrets/token
RUN --mount=type=secret,id=token,target=/etc/token,required,mode=0440,uid=1,gid=2 x
RUN --mount=type=secret,id=key,env=KEY use $KEY
RUN --mount=type=secret,id=key,env=KEY,target=/k use $KEY
RUN --mount=type=secret,target=/a/named x
RUN --mount=type=secret,source=src x
RUN --mount=type=ssh git fetch
RUN --mount=type=ssh,id=work,required,target=/agent,uid=3 --mount=type=ssh git fetch
