FROM base
CMD echo shell
ENTRYPOINT ["/bin/app", "a\"b", "c d"]
CMD ["--flag", "é\t"]
