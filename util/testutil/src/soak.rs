//! Tests that can run longer.

/// Set by `make soak`.
const VARIABLE: &str = "BUILDKIT_TEST_SOAK";

/// How many times more a soak repeats.
const FACTOR: u64 = 20;

/// How often a test repeats what it does: `usual` times, many more in a soak.
pub fn rounds(usual: u64) -> u64 {
    rounds_or(usual, usual * FACTOR)
}

/// How often a test repeats what it does: `usual` times, and `soak` times in a soak. The variable that asks for one
/// may hold a number larger than 1, which no test goes beyond then.
pub fn rounds_or(usual: u64, soak: u64) -> u64 {
    match std::env::var(VARIABLE) {
        Ok(value) if !value.is_empty() => match value.parse() {
            Ok(most @ 2..) => soak.min(most),
            _ => soak,
        },
        _ => usual,
    }
}
