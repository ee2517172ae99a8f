FROM base
COPY a /a
COPY b c d/ /dir/
COPY *.txt docs/**/x?.md [ab]c /glob/
COPY . .
COPY ./x/ rel
WORKDIR /w
COPY e f/
COPY g .
COPY h ./
COPY i ../up/.
COPY ["with space", "/to here/"]
