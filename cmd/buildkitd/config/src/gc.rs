use crate::{DiskSpace, Error, Gc};

/// What a percentage of a disk of unknown size is, in bytes.
const UNKNOWN_DISK: i64 = 2_000_000_000;

impl DiskSpace {
    /// The size in bytes on a disk of `total` bytes (0 when unknown); percentages are rounded up to whole
    /// gigabytes, as upstream does.
    pub fn as_bytes(self, total: u64) -> i64 {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percentage(0) => 0,
            Self::Percentage(_) if total == 0 => UNKNOWN_DISK,
            Self::Percentage(percent) => {
                let share =
                    (total / 100).saturating_mul(percent) + (total % 100).saturating_mul(percent) / 100;
                (share / (1 << 30) + 1).saturating_mul(1_000_000_000)
            }
        }
    }
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
    fn sizes_follow_the_disk() {
        let total = 200 << 30;
        assert_eq!(DiskSpace::Percentage(20).as_bytes(total), 41_000_000_000);
        assert_eq!(DiskSpace::Percentage(20).as_bytes(0), UNKNOWN_DISK);
        assert_eq!(DiskSpace::Bytes(7).as_bytes(total), 7);
        assert_eq!(DiskSpace::Percentage(100).as_bytes(u64::MAX), 8_589_934_592_000_000_000);
    }

    #[test]
    fn the_flag_has_up_to_three_parts() {
        let gc = parse_gc_flag("100,20%,300").expect("valid");
        assert_eq!(gc.reserved_space, DiskSpace::Bytes(100_000_000));
        assert_eq!(gc.min_free_space, DiskSpace::Percentage(20));
        assert_eq!(gc.max_used_space, DiskSpace::Bytes(300_000_000));
        assert!(parse_gc_flag("").expect("valid").reserved_space.is_unset());
        for text in ["a", "1,2,3,4", "1,,2"] {
            assert!(parse_gc_flag(text).is_err(), "{text}");
        }
    }
}
