FROM base
COPY secret.txt ./a /x/
ADD b/c /y
COPY . /all
