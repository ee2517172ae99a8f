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
    let filters =
        policies.iter().map(|policy| Filter::parse(&policy.filters)).collect::<Result<Vec<_>, _>>()?;
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
                let hidden = matches!(record.record_type, RecordType::Internal | RecordType::Frontend)
                    || record.shared;
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(seconds)
    }

    fn record(id: usize, size: i64, used: Option<u64>, count: u64, parents: &[usize]) -> UsageRecord {
        UsageRecord {
            id: RefId::new(&id.to_string()),
            mutable: false,
            in_use: false,
            size,
            created_at: at(0),
            last_used_at: used.map(at),
            usage_count: count,
            parents: parents.iter().map(|parent| RefId::new(&parent.to_string())).collect(),
            description: String::new(),
            record_type: RecordType::Regular,
            shared: false,
        }
    }

    fn planned(records: &[UsageRecord], policies: &[GcPolicy], space: Space) -> Vec<String> {
        let ids = plan(records, policies, at(1000), space).expect("plan");
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn kept_bytes_follow_the_limits() {
        // (max, min free, reserved), total, free, kept
        let cases = [
            ((0, 0, 0), 100, 50, None),
            ((0, 0, 30), 100, 50, Some(30)),
            ((80, 0, 0), 100, 50, Some(80)),
            ((80, 0, 90), 100, 50, Some(90)),
            ((0, 20, 0), 100, 50, Some(100)),
            ((0, 70, 0), 100, 50, Some(80)),
            ((0, 70, 95), 100, 50, Some(95)),
            ((60, 70, 0), 100, 50, Some(60)),
            ((90, 70, 0), 100, 50, Some(80)),
            ((90, 500, 10), 100, 50, Some(10)),
            ((90, 20, 0), 100, 50, Some(90)),
        ];
        for ((max_used_space, min_free_space, reserved_space), total, free, expect) in cases {
            let policy = GcPolicy { max_used_space, min_free_space, reserved_space, ..GcPolicy::default() };
            assert_eq!(keep_bytes(&policy, total, free), expect, "{policy:?}");
        }
    }

    #[test]
    fn the_least_used_go_first() {
        let records = [
            record(0, 10, Some(50), 1, &[]),
            record(1, 10, Some(10), 1, &[]),
            record(2, 10, Some(20), 9, &[]),
            record(3, 10, None, 0, &[]),
        ];
        let cap = |max_used_space| [GcPolicy { max_used_space, ..GcPolicy::default() }];
        let order = planned(&records, &[GcPolicy::default()], Space::default());
        assert_eq!(order, ["3", "1", "0", "2"]);
        assert_eq!(planned(&records, &cap(25), Space::default()), ["3", "1"]);
        assert_eq!(planned(&records, &cap(40), Space::default()), [""; 0]);
    }

    #[test]
    fn parents_go_after_their_children() {
        // 0 <- 1 <- 2, and 3 of both 0 and 2; the parents are older.
        let records = [
            record(0, 10, Some(1), 1, &[]),
            record(1, 10, Some(2), 1, &[0]),
            record(2, 10, Some(3), 1, &[1]),
            record(3, 10, Some(4), 1, &[0, 2]),
        ];
        assert_eq!(planned(&records, &[GcPolicy::default()], Space::default()), ["3", "2", "1", "0"]);
        let keep = GcPolicy { keep_duration: Duration::from_secs(997), ..GcPolicy::default() };
        assert_eq!(planned(&records, &[keep], Space::default()), [""; 0], "a young child keeps its parents");
        let mut held = records.clone();
        held[2].in_use = true;
        assert_eq!(planned(&held, &[GcPolicy::default()], Space::default()), ["3"]);
    }

    #[test]
    fn hidden_types_need_all() {
        let mut records =
            [record(0, 1, None, 0, &[]), record(1, 1, None, 0, &[]), record(2, 1, None, 0, &[])];
        records[0].record_type = RecordType::Internal;
        records[1].record_type = RecordType::Frontend;
        records[2].shared = true;
        assert!(planned(&records, &[GcPolicy::default()], Space::default()).is_empty());
        let all = GcPolicy { all: true, ..GcPolicy::default() };
        assert_eq!(planned(&records, &[all], Space::default()).len(), 3);
    }

    #[test]
    fn the_default_policy_is_upstreams() {
        let limits = Limits::detect(Space { total: 1 << 40, free: 0, available: 0 });
        let expect = Limits {
            reserved_space: 10_000_000_000,
            max_used_space: 100_000_000_000,
            min_free_space: 205_000_000_000,
        };
        assert_eq!(limits, expect);
        let policies = default_policies(limits);
        assert_eq!(policies.len(), 4);
        assert_eq!(policies[0].max_used_space, 512_000_000);
        assert!(policies[3].all && !policies[2].all);
        assert_eq!(percent(Space::default(), 10), 2_000_000_000);
    }

    fn records() -> impl Strategy<Value = Vec<UsageRecord>> {
        let one = (
            0i64..1000,
            prop::option::of(0u64..1000),
            0u64..4,
            prop::collection::vec(any::<u8>(), 0..3),
            0u8..10,
        );
        prop::collection::vec(one, 0..40).prop_map(|list| {
            let build = |(number, (size, used, count, parents, kind)): (usize, (i64, _, _, Vec<u8>, u8))| {
                let parents: HashSet<usize> = parents
                    .iter()
                    .filter(|_| number > 0)
                    .map(|parent| usize::from(*parent) % number)
                    .collect();
                let mut record = record(number, size, used, count, &parents.into_iter().collect::<Vec<_>>());
                record.in_use = kind == 0;
                record.shared = kind == 1;
                record.mutable = kind == 2;
                if kind == 3 {
                    record.record_type = RecordType::Internal;
                }
                record
            };
            list.into_iter().enumerate().map(build).collect()
        })
    }

    prop_compose! {
        fn policy()(
            all: bool,
            only_mutable: bool,
            keep in prop_oneof![Just(0u64), 0u64..1200],
            max_used_space in prop_oneof![Just(0i64), 0i64..10_000],
            reserved_space in prop_oneof![Just(0i64), 0i64..10_000],
            min_free_space in prop_oneof![Just(0i64), 0i64..10_000],
        ) -> GcPolicy {
            GcPolicy {
                all,
                filters: if only_mutable { vec!["mutable".to_owned()] } else { Vec::new() },
                keep_duration: Duration::from_secs(keep),
                max_used_space,
                reserved_space,
                min_free_space,
            }
        }
    }

    proptest! {
        #[test]
        fn plans_are_sound(records in records(), policy in policy(), free in 0u64..10_000) {
            let space = Space { total: 20_000, free, available: free };
            let chosen = plan(&records, std::slice::from_ref(&policy), at(1000), space).expect("plan");
            let used = |gone: &HashSet<RefId>| -> u64 {
                records.iter().filter(|record| !record.shared && !gone.contains(&record.id)).map(size).sum()
            };
            let total = used(&HashSet::new());
            let keep = keep_bytes(&policy, total, free);
            let mut gone = HashSet::new();
            for id in &chosen {
                let record = records.iter().find(|record| record.id == *id).expect("known");
                prop_assert!(!record.in_use);
                prop_assert!(policy.all || (!record.shared && record.record_type == RecordType::Regular));
                prop_assert!(policy.filters.is_empty() || record.mutable);
                if let Some(used) = record.last_used_at.filter(|_| !policy.keep_duration.is_zero()) {
                    prop_assert!(used + policy.keep_duration <= at(1000));
                }
                let needed = records.iter().any(|other| !gone.contains(&other.id) && other.parents.contains(id));
                prop_assert!(!needed, "a parent before its child");
                // Nothing goes once the limit is met.
                prop_assert!(keep.is_none_or(|keep| used(&gone) > keep));
                prop_assert!(gone.insert(id.clone()), "chosen twice");
            }
            // Either the limit is met, or nothing that may go is left.
            if keep.is_none_or(|keep| used(&gone) > keep) {
                let rest: Vec<UsageRecord> =
                    records.iter().filter(|record| !gone.contains(&record.id)).cloned().collect();
                let anything = GcPolicy { max_used_space: 0, min_free_space: 0, reserved_space: 0, ..policy };
                prop_assert!(plan(&rest, &[anything], at(1000), space).expect("plan").is_empty());
            }
        }

        #[test]
        fn several_policies_never_choose_twice(records in records(), policies in prop::collection::vec(policy(), 0..4)) {
            let chosen = plan(&records, &policies, at(1000), Space::default()).expect("plan");
            prop_assert_eq!(chosen.iter().collect::<HashSet<_>>().len(), chosen.len());
        }
    }
}
