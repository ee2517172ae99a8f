FROM base
ADD https://example.test/dir/file%20name.txt?q=1 /d/
ADD --checksum=sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad --chmod=644 http://example.test/ /u
ADD --unpack=true https://example.test/a.tgz local.txt /v/
