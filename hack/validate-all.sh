#!/bin/sh
# All checks but the tests, each of them even when another one failed.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
failed=""
check() { # NAME COMMAND...
	name=$1
	shift
	start=$(date +%s)
	if "$@"; then
		echo "ok      $name ($(($(date +%s) - start)) s)"
	else
		echo "FAILED  $name" >&2
		failed="$failed $name"
	fi
}
typos() {
	tool=$(hack/tools.sh typos) && "$tool" --config typos.toml --format brief
}
# Advisories are not asked for: their database is a git repository; those that matter are bans.
deny() {
	tool=$(hack/tools.sh cargo-deny) && "$tool" --locked --log-level warn check --hide-inclusion-graph bans licenses sources
}
# Features of one crate must not depend on those that others turn on.
alone() {
	for crate in snapshot executor source exporter frontend worker solver cache-metadata; do
		$cargo check --locked --quiet -p "buildkit-$crate" || return 1
	done
}
docs() {
	RUSTDOCFLAGS="-D warnings" $cargo doc --locked --quiet --workspace --no-deps --document-private-items
}
# The programs as the tests build them: nothing is built twice in one run of both.
tasks() {
	$cargo build --locked --quiet --workspace --bins
}
xtask=${CARGO_TARGET_DIR:-target}/debug/xtask
check format $cargo fmt --all -- --check
check clippy $cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
check tasks tasks
check tidy "$xtask" tidy
check codegen "$xtask" codegen --check
check deny deny
check typos typos
check alone alone
check docs docs
check vendor hack/validate-vendor.sh
if [ -n "$failed" ]; then
	echo "validate-all: failed:$failed" >&2
	exit 1
fi
echo "validate-all: all checks passed"
