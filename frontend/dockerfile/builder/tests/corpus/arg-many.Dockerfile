FROM base
ARG A=1 B C="x y" D='$A'
ARG A=${A}2
ENV E=${B:-none} F=${C:+set}
RUN echo $A $B $C $D $E
