FROM base
ADD a.tar.gz b.zip /x/
ADD --unpack=false a.tar /y/
ADD --unpack c d/
ADD --chown=3 e /e
