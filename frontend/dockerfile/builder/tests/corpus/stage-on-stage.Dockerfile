FROM base AS one
ENV A=1
ARG X=3
RUN a
FROM one AS two
ENV B=2
LABEL l=v
RUN b $X
FROM two
CMD ["x"]
