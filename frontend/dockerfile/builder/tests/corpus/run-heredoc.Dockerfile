FROM base
RUN <<EOF
echo one
echo two
EOF
RUN <<-EOF
	tabs
	  more
EOF
RUN <<EOF cat > /x
content
EOF
RUN cat <<A <<B
first
A
second
B
RUN 3<<"X" read $a
raw $b
X
