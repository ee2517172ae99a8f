FROM UPPER/Case AS bad
RUN x
FROM base
RUN y
