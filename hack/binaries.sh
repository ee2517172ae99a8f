#!/bin/sh
# Builds the release binaries into bin/.
set -eu
cd "$(dirname "$0")/.."
BUILDKIT_REVISION=${BUILDKIT_REVISION-$(git rev-parse HEAD 2>/dev/null || true)}
export BUILDKIT_REVISION
${CARGO:-cargo} build --locked --release -p buildkit-cmd-buildkitd -p buildkit-cmd-buildctl -p buildkit-cmd-buildkit-runc
target=${CARGO_TARGET_DIR:-target}
mkdir -p bin
for name in buildkitd buildctl buildkit-runc buildd-standalone buildd-containerd; do
	install -m 755 "$target/release/$name" "bin/$name"
done
ls -l bin
