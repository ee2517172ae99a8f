use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use buildkit_util_progress::SolveStatus;

/// Counts how much of a build came from the cache.
#[derive(Default)]
pub(crate) struct Metrics {
    steps: BTreeMap<String, Step>,
}

#[derive(Default)]
struct Step {
    name: String,
    is_base: bool,
    cached: bool,
    completed: bool,
}

impl Metrics {
    pub(crate) fn add(&mut self, status: &SolveStatus) {
        for vertex in &status.vertexes {
            let step = self
                .steps
                .entry(vertex.digest.as_str().to_owned())
                .or_insert_with(|| Step { name: vertex.name.clone(), ..Step::default() });
            step.is_base |= is_base(&vertex.name);
            step.cached |= vertex.cached;
            step.completed |= vertex.completed.is_some();
        }
    }

    /// A line for each step that was not cached, and a line of JSON.
    pub(crate) fn text(&self, duration: Duration) -> String {
        let mut out = String::new();
        let [mut completed, mut user, mut cached, mut user_completed, mut base, mut miss] = [0u64; 6];
        for step in self.steps.values() {
            completed += u64::from(step.completed);
            let internal = ["[internal]", "[auth]", "importing cache", "exporting "];
            if internal.iter().any(|prefix| step.name.starts_with(prefix)) {
                continue;
            }
            user += 1;
            cached += u64::from(step.cached);
            user_completed += u64::from(step.completed);
            base += u64::from(step.is_base);
            if !step.cached && !step.is_base {
                miss += 1;
                let _ = writeln!(out, "cache miss: {}", step.name);
            }
        }
        let _ = writeln!(
            out,
            "{{\"total\":{},\"completed\":{completed},\"user_total\":{user},\
             \"user_cached\":{cached},\"user_completed\":{user_completed},\
             \"user_cacheable\":{},\"from\":{base},\"miss\":{miss},\
             \"client_duration_ms\":{}}}",
            self.steps.len(),
            user - base,
            duration.as_millis()
        );
        out
    }
}

/// `[…] FROM …`
fn is_base(name: &str) -> bool {
    name.starts_with('[') && name.contains("] FROM")
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildkit_util_cachedigest::Digest;
    use buildkit_util_progress::Vertex;

    #[test]
    fn counts() {
        let vertex = |name: &str, cached| Vertex {
            digest: Digest::sha256(name),
            inputs: Vec::new(),
            name: name.to_owned(),
            started: None,
            completed: Some(std::time::SystemTime::UNIX_EPOCH),
            cached,
            error: String::new(),
            progress_group: None,
        };
        let mut metrics = Metrics::default();
        metrics.add(&SolveStatus {
            vertexes: vec![
                vertex("[internal] load", false),
                vertex("[1/3] FROM a", false),
                vertex("[2/3] RUN a", true),
                vertex("[3/3] RUN b", false),
            ],
            ..SolveStatus::default()
        });
        assert_eq!(
            metrics.text(Duration::from_millis(5)),
            "cache miss: [3/3] RUN b\n{\"total\":4,\"completed\":4,\"user_total\":3,\
             \"user_cached\":1,\"user_completed\":3,\"user_cacheable\":2,\"from\":1,\"miss\":1,\
             \"client_duration_ms\":5}\n"
        );
    }
}
