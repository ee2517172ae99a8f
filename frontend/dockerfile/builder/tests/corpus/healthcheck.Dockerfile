FROM base
HEALTHCHECK --interval=5m --timeout=3s --start-period=1500ms --start-interval=2s --retries=4 CMD curl -f http://localhost/ || exit 1
