FROM base
RUN <<EOF
#!/usr/bin/env python
print("hi")
EOF
RUN <<-SCRIPT
	#!/bin/sh
	id
	SCRIPT
