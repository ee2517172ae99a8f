//! In which order ready ops ask for the right to run.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use buildkit_util_cachedigest::Digest;
use foldhash::HashMap;

use crate::graph::{ActionId, JobKey};

/// Durations of single ops that are remembered at most.
const DURATIONS: usize = 50_000;

/// Expected seconds of an op of which nothing is known.
const UNKNOWN: f32 = 1.0;

/// How long ops took.
#[derive(Default)]
pub(crate) struct Durations {
    kinds: HashMap<&'static str, (f64, u32)>,
    ops: HashMap<Digest, f32>,
}

impl Durations {
    /// Expected seconds of an op of a kind.
    pub(crate) fn of_kind(&self, kind: &'static str) -> f32 {
        match self.kinds.get(kind) {
            Some((sum, count)) if *count > 0 => (*sum / f64::from(*count)) as f32,
            _ => UNKNOWN,
        }
    }

    /// What an op with this cache map takes more than others of its kind.
    pub(crate) fn surplus(&self, kind: &'static str, map: &Digest) -> f32 {
        self.ops.get(map).map_or(0.0, |seconds| seconds - self.of_kind(kind))
    }

    pub(crate) fn record(&mut self, kind: &'static str, map: Option<&Digest>, seconds: f32) {
        let mean = self.kinds.entry(kind).or_default();
        if mean.1 >= 1000 {
            // Old times count less and less.
            *mean = (mean.0 / 2.0, mean.1 / 2);
        }
        *mean = (mean.0 + f64::from(seconds), mean.1 + 1);
        if let Some(map) = map {
            if self.ops.len() >= DURATIONS {
                self.ops.clear();
            }
            self.ops.insert(map.clone(), seconds);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    remaining: f32,
    action: ActionId,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.remaining.total_cmp(&other.remaining).then_with(|| other.action.cmp(&self.action))
    }
}

/// Ready ops of one kind. One at a time asks for its permit, so that the order is ours: the job with
/// the fewest running ops first, then the one that was served longest ago; within a job the longest
/// remaining path first.
#[derive(Default)]
pub(crate) struct Gate {
    asking: Option<ActionId>,
    jobs: BTreeMap<JobKey, Queue>,
    running: HashMap<ActionId, JobKey>,
    turn: u64,
}

#[derive(Default)]
struct Queue {
    waiting: BinaryHeap<Waiting>,
    running: u32,
    served: u64,
}

impl Gate {
    pub(crate) fn push(&mut self, job: JobKey, remaining: f32, action: ActionId) {
        self.jobs.entry(job).or_default().waiting.push(Waiting { remaining, action });
    }

    /// The next op to ask for its permit, if none does. The caller passes over cancelled ones by
    /// calling [`done`](Self::done) and asking again.
    pub(crate) fn next(&mut self) -> Option<ActionId> {
        if self.asking.is_some() {
            return None;
        }
        let (job, queue) = self
            .jobs
            .iter_mut()
            .filter(|(_, queue)| !queue.waiting.is_empty())
            .min_by_key(|(job, queue)| (queue.running, queue.served, **job))?;
        let waiting = queue.waiting.pop()?;
        self.turn += 1;
        queue.served = self.turn;
        queue.running += 1;
        self.running.insert(waiting.action, *job);
        self.asking = Some(waiting.action);
        Some(waiting.action)
    }

    /// An op has its permit.
    pub(crate) fn permitted(&mut self, action: ActionId) {
        if self.asking == Some(action) {
            self.asking = None;
        }
    }

    /// An op ended, with or without having run.
    pub(crate) fn done(&mut self, action: ActionId) {
        self.permitted(action);
        if let Some(job) = self.running.remove(&action)
            && let Some(queue) = self.jobs.get_mut(&job)
        {
            queue.running -= 1;
            if queue.running == 0 && queue.waiting.is_empty() {
                self.jobs.remove(&job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_path_first_and_jobs_take_turns() {
        let mut gate = Gate::default();
        let (large, small) = (JobKey(1), JobKey(2));
        for (action, remaining) in [(1, 5.0), (2, 9.0), (3, 7.0)] {
            gate.push(large, remaining, ActionId(action));
        }
        gate.push(small, 1.0, ActionId(4));
        let mut order = Vec::new();
        while let Some(action) = gate.next() {
            gate.permitted(action);
            order.push(action.0);
        }
        assert_eq!(order, [2, 4, 3, 1]);
    }

    #[test]
    fn one_asks_at_a_time() {
        let mut gate = Gate::default();
        gate.push(JobKey(1), 1.0, ActionId(1));
        gate.push(JobKey(1), 1.0, ActionId(2));
        assert_eq!(gate.next(), Some(ActionId(1)));
        assert_eq!(gate.next(), None);
        gate.done(ActionId(1));
        assert_eq!(gate.next(), Some(ActionId(2)));
    }

    #[test]
    fn known_ops_differ_from_their_kind() {
        let mut durations = Durations::default();
        let map = Digest::sha256(b"slow");
        assert_eq!(durations.of_kind("exec"), UNKNOWN);
        durations.record("exec", None, 1.0);
        durations.record("exec", Some(&map), 3.0);
        assert_eq!(durations.of_kind("exec"), 2.0);
        assert_eq!(durations.surplus("exec", &map), 1.0);
    }
}
