FROM base
COPY a\ b $X/e /f\ g/
COPY ${Y:-h} /i${Z:-j}
