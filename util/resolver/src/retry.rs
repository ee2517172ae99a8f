//! How often and how long a request is tried.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::{Error, Limits};

/// Is told what failed and is tried again, in lines for people.
pub(crate) type Retries = Arc<dyn Fn(&str) + Send + Sync>;

/// Tries that are left to one request.
pub(crate) struct Budget {
    tries: u32,
    left: u32,
    delay: Duration,
    max_delay: Duration,
    deadline: Instant,
    told: Option<Retries>,
}

impl Budget {
    /// For a request to the last host that can answer; `more` is added to the total time.
    pub(crate) fn new(limits: &Limits, more: Duration) -> Self {
        // Far enough for anybody, and not too far to be added to.
        let total = limits.total.saturating_add(more).min(Duration::from_secs(7 * 24 * 3600));
        let tries = limits.tries.max(1);
        Self {
            tries,
            left: tries,
            delay: limits.backoff,
            max_delay: limits.max_backoff,
            deadline: Instant::now() + total,
            told: None,
        }
    }

    /// Tells of each new try.
    pub(crate) fn telling(mut self, told: Option<Retries>) -> Self {
        self.told = told;
        self
    }

    /// For a request to a host after which another one is asked.
    pub(crate) fn short(mut self) -> Self {
        self.left = self.left.min(2);
        self.tries = self.left;
        self
    }

    /// Until when all must be done.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Something was achieved: what failed before does not count any more.
    pub(crate) fn renew(&mut self, limits: &Limits) {
        (self.left, self.delay) = (self.tries, limits.backoff);
    }

    /// Counts a try that failed, and waits before the next one.
    ///
    /// # Errors
    /// What the try failed with, when there is no other.
    pub(crate) async fn again(&mut self, error: Error) -> Result<(), Error> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || !error.may_pass() {
            return Err(error);
        }
        // Half of it is random, so that those who failed together do not come again together.
        let wait = self.delay.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        let wait = error.retry_after().map_or(wait, |wanted| wanted.max(wait)).min(self.max_delay);
        self.delay = (self.delay * 2).min(self.max_delay);
        if Instant::now() + wait >= self.deadline {
            return Err(error);
        }
        tracing::debug!("{error}; trying again in {wait:?}");
        if let Some(told) = &self.told {
            told(&format!("error: {error}\nretrying in {wait:.1?}\n"));
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Reads `Retry-After`: seconds, or a date.
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value.trim()).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Attempt, Said};

    fn failed(status: u16, retry_after: Option<Duration>) -> Error {
        let said = Said { status, retry_after, ..Said::default() };
        Error::Status { attempt: Attempt::new("h", "x"), said: Box::new(said) }
    }

    #[tokio::test(start_paused = true)]
    async fn tries_and_time_are_bounded() {
        let limits = Limits::default();
        let mut budget = Budget::new(&limits, Duration::ZERO);
        for _ in 0..4 {
            budget.again(failed(503, None)).await.unwrap();
        }
        budget.again(failed(503, None)).await.unwrap_err();
        let mut budget = Budget::new(&limits, Duration::ZERO);
        budget.again(failed(404, None)).await.unwrap_err();
        // A registry does not make anybody wait for ever.
        let mut budget = Budget::new(&limits, Duration::MAX);
        let before = Instant::now();
        budget.again(failed(429, Some(Duration::from_secs(1 << 40)))).await.unwrap();
        assert_eq!(before.elapsed(), limits.max_backoff);
        let short = Limits { total: Duration::from_secs(1), ..limits };
        let mut budget = Budget::new(&short, Duration::ZERO);
        budget.again(failed(429, Some(Duration::from_secs(5)))).await.unwrap_err();
    }

    #[test]
    fn dates_and_seconds() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:00:10 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("-1"), None);
        assert_eq!(retry_after("soon"), None);
    }
}
