FROM emptyimage
COPY a /
