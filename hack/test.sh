#!/bin/sh
# Runs all tests. They need root: they mount, make namespaces and run containers.
# BUILDKIT_TEST_SOAK=1 makes those that can run longer do so; a larger number is the most that any repeats.
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "The tests mount file systems and run containers: run them as root." >&2
	exit 1
fi
cargo=${CARGO:-cargo}
profile=default
if [ -n "${BUILDKIT_TEST_SOAK:-}" ]; then
	profile=soak
	# Loops ask buildkit_util_testutil::rounds; properties take their number of cases from here.
	PROPTEST_CASES=${PROPTEST_CASES:-5120}
	export PROPTEST_CASES
fi
# The end-to-end tests drive these binaries. The same packages and features as the tests have, so that
# nothing is built twice.
$cargo build --locked --workspace --bins
# nextest ends a test that hangs, which `cargo test` does not. Tests wait more than they compute: twice as many as there
# are processors run at a time.
nextest=$(command -v cargo-nextest || hack/tools.sh cargo-nextest)
"$nextest" nextest run --locked --workspace --profile "$profile" --no-tests=fail \
	--test-threads "$((2 * $(nproc)))"
# nextest does not run the examples in documentation.
$cargo test --locked --workspace --doc --quiet
