#!/bin/sh
# Checks that the lock file is current and that a vendored tree builds from it alone.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
$cargo metadata --locked --format-version 1 >/dev/null
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
$cargo vendor --locked --versioned-dirs "$tree/vendor" >"$tree/config.toml" 2>/dev/null
$cargo metadata --locked --offline --config "$tree/config.toml" --format-version 1 >/dev/null
echo "vendor: $(find "$tree/vendor" -mindepth 1 -maxdepth 1 | wc -l) crates match the lock file"
