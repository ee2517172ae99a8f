//! Limits of a step that several builds share: a build must not be throttled by another's.

use std::collections::BTreeSet;

use buildkit_solver_pb::LinuxResources;

/// Most CPUs or memory nodes of one set; larger numbers are nonsense.
const MAX_CPU: u32 = 8192;

/// The limits that are the looser ones of both, field by field.
pub(crate) fn relaxed(a: &LinuxResources, b: &LinuxResources) -> LinuxResources {
    let (cpu_period, cpu_quota) = bandwidth((a.cpu_period, a.cpu_quota), (b.cpu_period, b.cpu_quota));
    LinuxResources {
        // 0 is unlimited.
        memory: if a.memory == 0 || b.memory == 0 { 0 } else { a.memory.max(b.memory) },
        // 0 is not set, -1 unlimited.
        memory_swap: match (a.memory_swap, b.memory_swap) {
            (0, other) | (other, 0) => other,
            (-1, _) | (_, -1) => -1,
            (a, b) => a.max(b),
        },
        // 0 is not set.
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_period,
        cpu_quota,
        cpuset_cpus: cpu_set(&a.cpuset_cpus, &b.cpuset_cpus),
        cpuset_mems: cpu_set(&a.cpuset_mems, &b.cpuset_mems),
    }
}

/// The pair of period and quota that gives more; they mean nothing apart. Quota 0 is unlimited.
fn bandwidth(a: (u64, i64), b: (u64, i64)) -> (u64, i64) {
    match (a, b) {
        ((_, 0), (_, 0)) => (0, 0),
        ((period, 0), _) | (_, (period, 0)) => (period, 0),
        ((0, _), _) | (_, (0, _)) => match a.1.cmp(&b.1) {
            std::cmp::Ordering::Greater => a,
            std::cmp::Ordering::Less => b,
            std::cmp::Ordering::Equal if a.0 == 0 => b,
            std::cmp::Ordering::Equal => a,
        },
        _ => {
            let share_a = i128::from(a.1) * i128::from(b.0);
            let share_b = i128::from(b.1) * i128::from(a.0);
            // Of equal shares the one that is given more often.
            if share_a > share_b || (share_a == share_b && a.0 <= b.0) { a } else { b }
        }
    }
}

/// The union; an empty set is no restriction. A set that makes no sense gives way to the other.
fn cpu_set(a: &str, b: &str) -> String {
    if a.is_empty() || b.is_empty() {
        return String::new();
    }
    match (parse(a), parse(b)) {
        (Some(mut union), Some(other)) => {
            union.extend(other);
            format(&union)
        }
        (None, Some(_)) => b.to_owned(),
        _ => a.to_owned(),
    }
}

fn parse(text: &str) -> Option<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > MAX_CPU {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

fn format(set: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in set {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let parts: Vec<String> = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_looser_limit_counts() {
        let a = LinuxResources {
            memory: 10,
            memory_swap: 20,
            cpu_shares: 5,
            cpuset_cpus: "0-1,4".to_owned(),
            cpuset_mems: "0".to_owned(),
            ..LinuxResources::default()
        };
        let b = LinuxResources {
            memory: 30,
            memory_swap: -1,
            cpu_shares: 0,
            cpuset_cpus: "2,7".to_owned(),
            ..LinuxResources::default()
        };
        let both = relaxed(&a, &b);
        assert_eq!((both.memory, both.memory_swap, both.cpu_shares), (30, -1, 5));
        assert_eq!((both.cpuset_cpus.as_str(), both.cpuset_mems.as_str()), ("0-2,4,7", ""));
        assert_eq!(relaxed(&b, &a).memory_swap, -1);
        assert_eq!(relaxed(&a, &LinuxResources::default()).memory, 0);
        assert_eq!(cpu_set("x", "1"), "1");
        assert_eq!(cpu_set("1", "5-2"), "1");
        assert_eq!(cpu_set("1", "0-4294967295"), "1");
    }

    #[test]
    fn period_and_quota_stay_together() {
        for (a, b, expected) in [
            ((100, 50), (1000, 600), (1000, 600)),
            ((100, 50), (1000, 500), (100, 50)),
            ((100, 0), (1000, 500), (100, 0)),
            ((0, 0), (0, 0), (0, 0)),
            ((0, 50), (100, 50), (100, 50)),
            ((u64::MAX, i64::MAX), (1, 1), (1, 1)),
        ] {
            assert_eq!(bandwidth(a, b), expected, "{a:?} {b:?}");
        }
    }
}
