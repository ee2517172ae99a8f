FROM base
ADD https://github.com/a/b.git /b
ADD --keep-git-dir=true https://github.com/a/b.git#v1:sub /c
ADD --checksum=0123456789012345678901234567890123456789 https://github.com/a/b.git?ref=x&submodules=false /e
