FROM base
COPY https://example.test/x.git /x
