#!/bin/sh
# Runs all tests. They need root: they mount, make namespaces and run containers.
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "The tests mount file systems and run containers: run them as root." >&2
	exit 1
fi
cargo=${CARGO:-cargo}
# The end-to-end tests drive these binaries.
$cargo build --locked -p buildkit-cmd-buildkitd -p buildkit-cmd-buildctl
if $cargo nextest --version >/dev/null 2>&1; then
	$cargo nextest run --locked --workspace
else
	$cargo test --locked --workspace --lib --bins --tests
fi
$cargo test --locked --workspace --doc --quiet
