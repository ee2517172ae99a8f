FROM base
COYP a /a
