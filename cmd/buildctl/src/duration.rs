//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`.

use std::time::Duration;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration that is not negative.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let error = || format!("invalid duration {text:?}");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(error());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, tail) = rest.split_at(end);
        let next = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(next);
        let scale = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(error());
        }
        let digits = |text: &str| {
            if text.is_empty() { Some(0) } else { text.parse::<u64>().ok().map(u128::from) }
        };
        let fraction = &fraction[..fraction.len().min(18)];
        let part = digits(fraction).ok_or_else(error)? * scale
            / 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        nanos += digits(whole).ok_or_else(error)? * scale + part;
        rest = tail;
    }
    u64::try_from(nanos)
        .ok()
        .filter(|&nanos| i64::try_from(nanos).is_ok())
        .map(Duration::from_nanos)
        .ok_or_else(error)
}

/// Writes a duration in nanoseconds.
pub(crate) fn format(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let decimal = |value: u64, digits: usize, unit: &str| {
        let scale = 10u64.pow(u32::try_from(digits).unwrap_or(0));
        let fraction = format!("{:0digits$}", value % scale);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() || digits == 0 { "" } else { "." };
        let fraction = if digits == 0 { "" } else { fraction };
        format!("{}{point}{fraction}{unit}", value / scale)
    };
    let text = match total {
        ..1_000 => decimal(total, 0, "ns"),
        1_000..1_000_000 => decimal(total, 3, "µs"),
        1_000_000..1_000_000_000 => decimal(total, 6, "ms"),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = decimal(total % 60_000_000_000, 9, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for (text, nanos, formatted) in [
            ("0", 0, "0s"),
            ("24h", 86_400_000_000_000, "24h0m0s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("300ms", 300_000_000, "300ms"),
            (".5us", 500, "500ns"),
            ("1us5ns", 1_005, "1.005µs"),
        ] {
            let duration = parse(text).expect(text);
            assert_eq!(duration, Duration::from_nanos(nanos), "{text}");
            assert_eq!(format(i64::try_from(nanos).expect("fits")), formatted);
        }
        assert_eq!(format(-1_500_000_000), "-1.5s");
        for text in ["", "1", "x", "1x", "-1s", ".s", "1..2s", "9999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
