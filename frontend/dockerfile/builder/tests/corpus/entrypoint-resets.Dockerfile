FROM other
ENTRYPOINT run me
