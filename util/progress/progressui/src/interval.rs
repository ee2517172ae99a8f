use std::time::{Duration, SystemTime};

/// A span of time; without an end it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) start: SystemTime,
    pub(crate) stop: Option<SystemTime>,
}

impl Interval {
    pub(crate) fn duration(&self, now: SystemTime) -> Duration {
        self.stop.unwrap_or(now).duration_since(self.start).unwrap_or_default()
    }
}

/// Spans that overlap or touch become one.
pub(crate) fn merge(intervals: impl IntoIterator<Item = Interval>) -> Vec<Interval> {
    let mut sorted: Vec<_> = intervals.into_iter().collect();
    sorted.sort_by_key(|interval| interval.start);
    let mut merged: Vec<Interval> = Vec::with_capacity(sorted.len());
    for next in sorted {
        match merged.last_mut() {
            Some(last) if last.stop.is_none_or(|stop| stop >= next.start) => {
                last.stop = match (last.stop, next.stop) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// The whole time of spans that do not overlap.
pub(crate) fn total(intervals: &[Interval], now: SystemTime) -> Duration {
    intervals.iter().map(|interval| interval.duration(now)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn spans(list: &[(u64, Option<u64>)]) -> Vec<Interval> {
        list.iter().map(|&(start, stop)| Interval { start: at(start), stop: stop.map(at) }).collect()
    }

    #[test]
    fn overlaps_are_merged() {
        for (input, expect) in [
            (&[][..], &[][..]),
            (&[(0, Some(1)), (2, Some(3))], &[(0, Some(1)), (2, Some(3))]),
            (&[(2, Some(3)), (0, Some(2))], &[(0, Some(3))]),
            (&[(0, Some(9)), (1, Some(2)), (8, Some(10))], &[(0, Some(10))]),
            (&[(0, None), (5, Some(6))], &[(0, None)]),
            (&[(0, Some(2)), (1, None), (7, Some(8))], &[(0, None)]),
        ] {
            assert_eq!(merge(spans(input)), spans(expect), "{input:?}");
        }
        assert_eq!(total(&spans(&[(0, Some(1)), (5, None)]), at(7)), Duration::from_secs(3));
    }
}
