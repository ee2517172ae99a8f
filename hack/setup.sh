#!/bin/sh
# Installs the Debian packages that building and testing need, when some are missing and this is root.
# Prints what is missing and fails when it cannot install it.
set -eu
missing=""
need() { # COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need cc gcc
need runc runc
need busybox busybox-static
need git git
need getfattr attr
need ssh-agent openssh-client
need dot graphviz
need jq jq
need docker-registry docker-registry
need skopeo skopeo
need umoci umoci
need ctr containerd
need python3 python3
need openssl openssl
need strace strace
need nsenter util-linux
need diff diffutils
need tar tar
need iptables iptables
need /usr/lib/cni/bridge containernetworking-plugins
# A dynamic busybox is of no use as a root file system.
if command -v busybox >/dev/null 2>&1 && ldd "$(command -v busybox)" >/dev/null 2>&1; then
	missing="$missing busybox-static"
fi
# Prebuilt checkers come from the Python index.
if ! python3 -m pip --version >/dev/null 2>&1; then
	missing="$missing python3-pip"
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "Missing packages:$missing. Install them, or run this as root on Debian." >&2
	exit 1
fi
echo "Installing:$missing"
log=$(mktemp)
# shellcheck disable=SC2086 # a list of packages
if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
	cat "$log" >&2
	rm -f "$log"
	exit 1
fi
rm -f "$log"
