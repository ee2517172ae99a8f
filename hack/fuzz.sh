#!/bin/sh
# Fuzzes each target for some seconds: hack/fuzz.sh [SECONDS [TARGET...]].
# What is found lies in target/fuzz/found; give such a file to the target's program to see it again.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# = 0 ] || shift
targets=${*:-challenges definition dockerfile dockerfile_instructions dockerfile_parser dockerfile_shell git_names json layer manifests packets patterns streams}
dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
host=$(${RUSTC:-rustc} -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes, but for the sanitizer: none of this code is unsafe.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
export RUSTFLAGS
# With a target of its own, build scripts are not instrumented.
CARGO_TARGET_DIR=$dir ${CARGO:-cargo} build --manifest-path hack/fuzz/Cargo.toml --release --target "$host" --bins
mkdir -p "$dir/found"
for target in $targets; do
	echo "== $target"
	mkdir -p "$dir/corpus/$target"
	"$dir/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$dir/found/$target-" "$dir/corpus/$target"
done
