FROM base
ENV V=abcabc F=/a/b/c.tar.gz
ENV A=${V#a} B=${V##*b} C=${F%.*} D=${F%%.*} E=${V/b/X} G=${V//b/X} H=${U-d} I=${U:+x}
WORKDIR ${F%/*}
RUN echo ${V#a}
