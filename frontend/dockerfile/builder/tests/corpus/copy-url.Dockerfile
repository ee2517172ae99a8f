FROM base
COPY https://example.test/x /x
