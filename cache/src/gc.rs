//! Which records to remove: a pure plan on a snapshot of all records.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, SystemTime};

use buildkit_util_disk::Space;

use crate::{Filter, FilterError, RecordType, RefId, UsageRecord};

/// A rule of garbage collection. Rules are applied one after the other.
///
/// Sizes are bytes, 0 (or less) meaning no limit. With a limit, records go one by one, the least
/// recently and least often used first, until the cache has at most
/// `max(reserved_space, min(max_used_space, total - (min_free_space - free)))` bytes. Without one,
/// all that the other fields allow go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcPolicy {
    /// Also remove what is internal, of frontends, or shared.
    pub all: bool,
    /// Only records that one of these filters chooses; see [`Filter`].
    pub filters: Vec<String>,
    /// Only records that were not used for so long.
    pub keep_duration: Duration,
    /// The cache is never made smaller than this.
    pub reserved_space: i64,
    /// The cache is made no larger than this.
    pub max_used_space: i64,
    /// The file system has at least this free.
    pub min_free_space: i64,
}

/// Sizes that the default policy is made of, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// See [`GcPolicy::reserved_space`].
    pub reserved_space: i64,
    /// See [`GcPolicy::max_used_space`].
    pub max_used_space: i64,
    /// See [`GcPolicy::min_free_space`].
    pub min_free_space: i64,
}

impl Limits {
    /// Upstream's default for a file system: 10 % (at most 10 GB) reserved, 80 % (at most 100 GB)
    /// used, 20 % free.
    pub fn detect(space: Space) -> Self {
        Self {
            reserved_space: percent(space, 10).min(10_000_000_000),
            max_used_space: percent(space, 80).min(100_000_000_000),
            min_free_space: percent(space, 20),
        }
    }
}

/// A share of a file system, rounded up as upstream does: in GiB, then taken for GB.
pub fn percent(space: Space, percent: u64) -> i64 {
    if space.total == 0 {
        return 2_000_000_000;
    }
    let share = u128::from(space.total) * u128::from(percent) / 100;
    i64::try_from((share / (1 << 30) + 1) * 1_000_000_000).unwrap_or(i64::MAX)
}

/// Upstream's default policy (cmd/buildkitd/config/gcpolicy.go) within limits.
pub fn default_policies(limits: Limits) -> Vec<GcPolicy> {
    const HOUR: u64 = 3600;
    let within = GcPolicy {
        reserved_space: limits.reserved_space,
        max_used_space: limits.max_used_space,
        min_free_space: limits.min_free_space,
        ..GcPolicy::default()
    };
    vec![
        // What is most easily made again.
        GcPolicy {
            filters: ["type==source.local", "type==exec.cachemount", "type==source.git.checkout"]
                .map(str::to_owned)
                .to_vec(),
            keep_duration: Duration::from_secs(48 * HOUR),
            max_used_space: 512_000_000,
            ..GcPolicy::default()
        },
        GcPolicy { keep_duration: Duration::from_secs(60 * 24 * HOUR), ..within.clone() },
        within.clone(),
        GcPolicy { all: true, ..within },
    ]
}

/// The size that the cache is brought down to; `None` is no limit.
pub fn keep_bytes(policy: &GcPolicy, total: u64, free: u64) -> Option<u64> {
    let (max, min_free, reserved) = (
        u64::try_from(policy.max_used_space).unwrap_or(0),
        u64::try_from(policy.min_free_space).unwrap_or(0),
        u64::try_from(policy.reserved_space).unwrap_or(0),
    );
    if (max, min_free, reserved) == (0, 0, 0) {
        return None;
    }
    let excess = min_free.saturating_sub(free);
    let keep = if excess > 0 {
        // What is missing on the file system comes off.
        let within = total.saturating_sub(excess);
        if max == 0 { within } else { max.min(within) }
    } else if max == 0 && min_free > 0 {
        total
    } else {
        max
    };
    let keep = keep.max(reserved);
    Some(keep)
}

/// Chooses the records to remove, in the order in which they can be: children before parents.
///
/// What is in use is never chosen. Sizes count once the record is gone, so that limits are met
/// exactly: nothing is removed once the cache is within them.
///
/// # Errors
/// When a filter is wrong.
pub fn plan(
    records: &[UsageRecord],
    policies: &[GcPolicy],
    now: SystemTime,
    space: Space,
) -> Result<Vec<RefId>, FilterError> {
    let filters = policies.iter().map(|policy| Filter::parse(&policy.filters)).collect::<Result<Vec<_>, _>>()?;
    let by_id: HashMap<&RefId, usize> =
        records.iter().enumerate().map(|(number, record)| (&record.id, number)).collect();
    let parents: Vec<Vec<usize>> = records
        .iter()
        .map(|record| record.parents.iter().filter_map(|id| by_id.get(id).copied()).collect())
        .collect();
    let mut state = State {
        records,
        children: vec![0; records.len()],
        parents,
        gone: vec![false; records.len()],
        used: records.iter().filter(|record| !record.shared).map(size).sum(),
        free: space.free,
        chosen: Vec::new(),
    };
    for list in &state.parents {
        for parent in list {
            state.children[*parent] += 1;
        }
    }
    for (policy, filter) in policies.iter().zip(&filters) {
        state.apply(policy, filter, now);
    }
    Ok(state.chosen.into_iter().map(|number| records[number].id.clone()).collect())
}

fn size(record: &UsageRecord) -> u64 {
    u64::try_from(record.size).unwrap_or(0)
}

struct State<'a> {
    records: &'a [UsageRecord],
    parents: Vec<Vec<usize>>,
    /// Records that are made of this one and not gone.
    children: Vec<u32>,
    gone: Vec<bool>,
    used: u64,
    free: u64,
    chosen: Vec<usize>,
}

impl State<'_> {
    fn apply(&mut self, policy: &GcPolicy, filter: &Filter, now: SystemTime) {
        let keep = keep_bytes(policy, self.used, self.free);
        if keep.is_some_and(|keep| self.used <= keep) {
            return;
        }
        let cut_off = now.checked_sub(policy.keep_duration);
        let eligible: Vec<bool> = self
            .records
            .iter()
            .enumerate()
            .map(|(number, record)| {
                let hidden =
                    matches!(record.record_type, RecordType::Internal | RecordType::Frontend) || record.shared;
                // A clock that was set back must not make everything look old.
                let recent = !policy.keep_duration.is_zero()
                    && record.last_used_at.is_some_and(|used| cut_off.is_none_or(|cut_off| used > cut_off));
                !self.gone[number]
                    && !record.in_use
                    && (policy.all || !hidden)
                    && !recent
                    && record.matches(filter)
            })
            .collect();
        let ranks = rank(self.records, &eligible);
        let mut ready: BinaryHeap<Reverse<Candidate>> = (0..self.records.len())
            .filter(|number| eligible[*number] && self.children[*number] == 0)
            .map(|number| Reverse(Candidate { rank: ranks[number], number }))
            .collect();
        while let Some(Reverse(Candidate { number, .. })) = ready.pop() {
            if keep.is_some_and(|keep| self.used <= keep) {
                return;
            }
            self.gone[number] = true;
            self.chosen.push(number);
            let freed = size(&self.records[number]);
            self.free = self.free.saturating_add(freed);
            if !self.records[number].shared {
                self.used -= freed;
            }
            for at in 0..self.parents[number].len() {
                let parent = self.parents[number][at];
                self.children[parent] -= 1;
                if self.children[parent] == 0 && eligible[parent] {
                    ready.push(Reverse(Candidate { rank: ranks[parent], number: parent }));
                }
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
struct Candidate {
    rank: f64,
    number: usize,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.total_cmp(&other.rank).then(self.number.cmp(&other.number))
    }
}

/// How late each record goes: its place by the time of its last use plus its place by the number of
/// uses, each between 0 and 1.
fn rank(records: &[UsageRecord], eligible: &[bool]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..records.len()).filter(|number| eligible[*number]).collect();
    let mut ranks = vec![0.0; records.len()];
    add_places(&mut order, &mut ranks, |number| records[number].last_used_at);
    add_places(&mut order, &mut ranks, |number| records[number].usage_count);
    ranks
}

fn add_places<K: Ord>(order: &mut [usize], ranks: &mut [f64], key: impl Fn(usize) -> K) {
    order.sort_by_key(|number| key(*number));
    let mut places = Vec::with_capacity(order.len());
    let mut place = 1u32;
    for (at, number) in order.iter().enumerate() {
        if at > 0 && key(order[at - 1]) != key(*number) {
            place += 1;
        }
        places.push(place);
    }
    for (number, at) in order.iter().zip(places) {
        ranks[*number] += f64::from(at) / f64::from(place);
    }
}
