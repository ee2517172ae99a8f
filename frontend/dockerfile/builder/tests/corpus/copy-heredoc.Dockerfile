FROM base
ENV NAME=world
COPY <<EOF /etc/greeting
hello $NAME and \$escaped "quoted"
EOF
COPY --chmod=600 --chown=1:2 <<"RAW" <<-TABS /dir/
$NAME stays
RAW
	tabbed ${NAME}
TABS
ADD <<config.json plain /etc/
{"a": "$NAME"}
config.json
