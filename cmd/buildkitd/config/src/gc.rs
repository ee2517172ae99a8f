use std::time::Duration;

use crate::{DiskSpace, Error, Gc};

/// Capacity of the file system of the state directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCapacity {
    /// Bytes; 0 when unknown.
    pub total: i64,
}

/// One rule of garbage collection with sizes in bytes; 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcRule {
    /// Internal and shared records too.
    pub all: bool,
    /// Records that the rule is about; empty is all.
    pub filters: Vec<String>,
    /// Records used within this time are kept.
    pub keep_duration: Duration,
    /// Never collected below this.
    pub reserved_space: i64,
    /// Collected above this.
    pub max_used_space: i64,
    /// Free space to aim for.
    pub min_free_space: i64,
}

/// Least that is kept by default: a tenth of the disk, at most this.
const RESERVE_PERCENT: i64 = 10;
const RESERVE_BYTES: i64 = 10_000_000_000;
/// Free space that is aimed for by default.
const FREE_PERCENT: i64 = 20;
/// Most that is used by default: four fifths of the disk, at most this.
const MAX_PERCENT: i64 = 80;
const MAX_BYTES: i64 = 100_000_000_000;
/// What a percentage of a disk of unknown size is.
const UNKNOWN_DISK: i64 = 2_000_000_000;

impl DiskSpace {
    /// The size in bytes on a disk; percentages are rounded up to whole gigabytes, as upstream does.
    pub fn as_bytes(self, disk: DiskCapacity) -> i64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percentage(0) => 0,
            Self::Percentage(_) if disk.total == 0 => UNKNOWN_DISK,
            Self::Percentage(percent) => {
                let share = disk.total / 100 * percent + disk.total % 100 * percent / 100;
                (share / (1 << 30) + 1).saturating_mul(1_000_000_000)
            }
        }
    }
}

/// The rules of a worker: its own, or the default ones with its limits. Empty when switched off.
pub fn resolve_gc_rules(gc: &Gc, disk: DiskCapacity) -> Vec<GcRule> {
    if gc.enabled == Some(false) {
        return Vec::new();
    }
    if gc.policies.is_empty() {
        return default_gc_rules(gc, disk);
    }
    let rules = gc.policies.iter().map(|policy| {
        let reserved =
            if policy.reserved_space.is_unset() { policy.keep_bytes } else { policy.reserved_space };
        GcRule {
            all: policy.all,
            filters: policy.filters.clone(),
            keep_duration: policy.keep_duration.0,
            reserved_space: reserved.as_bytes(disk),
            max_used_space: policy.max_used_space.as_bytes(disk),
            min_free_space: policy.min_free_space.as_bytes(disk),
        }
    });
    rules.collect()
}

/// Upstream's default rules (`cmd/buildkitd/config/gcpolicy.go`) within a worker's limits.
pub fn default_gc_rules(gc: &Gc, disk: DiskCapacity) -> Vec<GcRule> {
    let given = |gc: &Gc, reserved: DiskSpace| {
        (reserved.as_bytes(disk), gc.max_used_space.as_bytes(disk), gc.min_free_space.as_bytes(disk))
    };
    let is_unset = gc.reserved_space.is_unset() && gc.max_used_space.is_unset() && gc.min_free_space.is_unset();
    let (reserved_space, max_used_space, min_free_space) = match (is_unset, gc.keep_storage.is_unset()) {
        (false, _) => given(gc, gc.reserved_space),
        (true, false) => given(gc, gc.keep_storage),
        (true, true) => (
            DiskSpace::Percentage(RESERVE_PERCENT).as_bytes(disk).min(RESERVE_BYTES),
            DiskSpace::Percentage(MAX_PERCENT).as_bytes(disk).min(MAX_BYTES),
            DiskSpace::Percentage(FREE_PERCENT).as_bytes(disk),
        ),
    };
    let capped = GcRule { reserved_space, max_used_space, min_free_space, ..GcRule::default() };
    let days = |count: u64| Duration::from_secs(count * 24 * 3600);
    vec![
        // What is made again most easily, once it is large.
        GcRule {
            filters: ["type==source.local", "type==exec.cachemount", "type==source.git.checkout"]
                .map(str::to_owned)
                .to_vec(),
            keep_duration: days(2),
            max_used_space: 512_000_000,
            ..GcRule::default()
        },
        // What nobody used for long.
        GcRule { keep_duration: days(60), ..capped.clone() },
        // What no image shares.
        capped.clone(),
        // All else.
        GcRule { all: true, ..capped },
    ]
}

/// Parses the flag `--oci-worker-gc-keepstorage`: `reserved[,free[,maximum]]`, each a number of
/// megabytes or a percentage.
///
/// # Errors
/// When it has another form.
pub fn parse_gc_flag(text: &str) -> Result<Gc, Error> {
    let mut gc = Gc::default();
    if text.is_empty() {
        return Ok(gc);
    }
    let error = || Error::Invalid(format!("failed to parse storage {text:?}"));
    let parts = text
        .split(',')
        .map(|part| match part.strip_suffix('%') {
            Some(percent) => percent.parse().map(DiskSpace::Percentage).map_err(|_| error()),
            None => part
                .parse::<i64>()
                .map(|megabytes| DiskSpace::Bytes(megabytes.saturating_mul(1_000_000)))
                .map_err(|_| error()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    match parts[..] {
        [reserved] => gc.reserved_space = reserved,
        [reserved, free] => (gc.reserved_space, gc.min_free_space) = (reserved, free),
        [reserved, free, max] => {
            (gc.reserved_space, gc.min_free_space, gc.max_used_space) = (reserved, free, max);
        }
        _ => return Err(error()),
    }
    Ok(gc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_rules_follow_the_disk() {
        let disk = DiskCapacity { total: 200 << 30 };
        let rules = default_gc_rules(&Gc::default(), disk);
        assert_eq!(rules.len(), 4);
        assert_eq!(rules[3].reserved_space, RESERVE_BYTES);
        assert_eq!(rules[3].max_used_space, MAX_BYTES);
        assert_eq!(rules[3].min_free_space, 41_000_000_000);
        let gc = parse_gc_flag("100,200,300").expect("valid");
        let rules = default_gc_rules(&gc, disk);
        assert_eq!(
            (rules[1].reserved_space, rules[1].min_free_space, rules[1].max_used_space),
            (100_000_000, 200_000_000, 300_000_000)
        );
        assert!(parse_gc_flag("a").is_err());
        assert!(parse_gc_flag("1,2,3,4").is_err());
        let off = Gc { enabled: Some(false), ..Gc::default() };
        assert!(resolve_gc_rules(&off, disk).is_empty());
    }
}
