use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::Headers;

/// How a session's health is watched. Defaults and the header are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Time between checks.
    pub interval: Duration,
    /// Least time that a check may take; it may also take one and a half times as long as the last.
    pub timeout: Duration,
    /// Failed checks in a row that end the session.
    pub failures: u32,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), timeout: Duration::from_secs(15), failures: 2 }
    }
}

impl HealthPolicy {
    /// The policy that a client's headers ask for.
    pub fn from_headers(headers: &Headers) -> Self {
        match headers.health_timeout_ms() {
            Some(ms) => {
                // Shorter ones would end healthy sessions on slow machines.
                let timeout = Duration::from_millis(ms).max(Duration::from_secs(1));
                Self { interval: timeout, timeout, failures: 1 }
            }
            None => Self::default(),
        }
    }

    /// Checks until the session is unhealthy, and says why.
    pub(crate) async fn watch(self, channel: Channel) -> String {
        let mut client = HealthClient::new(channel);
        let mut failures = 0;
        let mut last = Duration::ZERO;
        loop {
            tokio::time::sleep(self.interval).await;
            let timeout = self.timeout.max(last.mul_f64(1.5));
            let started = Instant::now();
            let check = client.check(HealthCheckRequest { service: String::new() });
            let problem = match tokio::time::timeout(timeout, check).await {
                Ok(Ok(_)) => None,
                // A server without the service is alive: it answered.
                Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => None,
                Ok(Err(status)) => Some(status.message().to_owned()),
                Err(_) => Some(format!("No answer in {timeout:?}")),
            };
            last = started.elapsed();
            match problem {
                None => failures = 0,
                Some(problem) => {
                    failures += 1;
                    if failures >= self.failures {
                        return problem;
                    }
                }
            }
        }
    }
}
