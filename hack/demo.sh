#!/bin/sh
# Builds examples/dockerfiles/demo with a daemon of its own: an image, then a folder. Leaves nothing behind.
set -eu
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
$CARGO build --locked --release -p buildkit-cmd-buildkitd -p buildkit-cmd-buildctl -p buildkit-cmd-buildkit-runc
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
for name in sh echo cat sleep ls uname md5sum cut wc; do ln -s busybox "$work/rootfs/bin/$name"; done

export BUILDKIT_HOST="unix://$work/buildkitd.sock"
"$target/buildkitd" --root "$work/root" --addr "$BUILDKIT_HOST" --containerd-worker=false >"$work/log" 2>&1 &
daemon=$!
if ! "$target/buildctl" --timeout 20 --wait debug info >/dev/null; then
	cat "$work/log"
	exit 1
fi
echo "not for everybody" >"$work/key"
build() {
	"$target/buildctl" build --frontend dockerfile.v0 --local context=examples/dockerfiles/demo \
		--local dockerfile=examples/dockerfiles/demo --local busybox="$work/rootfs" --opt context:busybox=local:busybox \
		--secret id=key,src="$work/key" "$@"
}
echo "== An image"
build --output "type=oci,name=example.org/demo:latest,dest=$work/image.tar"
tar -xOf "$work/image.tar" index.json
echo
echo "== A folder, from the same steps: none runs again"
build --output "type=local,dest=$work/out" --progress plain
(cd "$work/out" && find . -type f | sort | while read -r file; do echo "$file: $(cat "$file")"; done)
echo "== With another argument: one stage runs again"
build --output "type=local,dest=$work/out" --opt build-arg:SPEED=slow
cat "$work/out/clock"
