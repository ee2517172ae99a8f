#!/bin/sh
# Builds examples/hello with a daemon of its own, twice, and shows the result. Leaves nothing behind.
set -eu
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
$CARGO build --locked --release -p buildkit-cmd-buildkitd -p buildkit-cmd-buildctl -p example-hello
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
daemon=""
finish() {
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir -p "$work/rootfs/bin" "$work/rootfs/tmp"
cp "$(command -v busybox)" "$work/rootfs/bin/busybox"
for name in sh echo cat sleep ls uname; do ln -s busybox "$work/rootfs/bin/$name"; done

export BUILDKIT_HOST="unix://$work/buildkitd.sock"
"$target/buildkitd" --root "$work/root" --addr "$BUILDKIT_HOST" --containerd-worker=false >"$work/log" 2>&1 &
daemon=$!
if ! "$target/buildctl" --timeout 20 --wait debug info >/dev/null; then
	cat "$work/log"
	exit 1
fi
build() {
	"$target/example-hello" | "$target/buildctl" build --local rootfs="$work/rootfs" --output "type=local,dest=$work/out" "$@"
}
echo "== First build"
build
echo "== Result"
(cd "$work/out" && find . -type f | sort | while read -r file; do echo "$file: $(cat "$file")"; done)
echo "== Second build: every step but the transfer is cached"
build --progress plain
