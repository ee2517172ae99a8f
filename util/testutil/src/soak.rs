//! Tests that can run longer.

/// Set by `make soak`.
const VARIABLE: &str = "BUILDKIT_TEST_SOAK";

/// How many times more a soak repeats.
const FACTOR: u64 = 20;

/// How often a test repeats what it does: `usual` times, many more in a soak.
pub fn rounds(usual: u64) -> u64 {
    if std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) { usual * FACTOR } else { usual }
}
