//! Waiting with a deadline.

use std::time::{Duration, Instant};

/// Asks `ready` again and again until it has a value.
///
/// Deadlines are for hangs, not for measuring: take ten times what the thing takes.
///
/// # Panics
/// When nothing came within `deadline`; `what` says what was waited for.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_until_there_is_a_value() {
        let mut left = 3;
        let value = wait_for("three times", Duration::from_secs(30), || {
            left -= 1;
            (left == 0).then_some("there")
        });
        assert_eq!(value, "there");
    }

    #[test]
    #[should_panic(expected = "never: not within")]
    fn gives_up_at_the_deadline() {
        wait_for("never", Duration::from_millis(20), || None::<()>);
    }
}
