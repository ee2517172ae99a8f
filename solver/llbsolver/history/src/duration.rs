/// Units of Go's durations, in nanoseconds.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration as Go writes it, such as `-1h30m` or `1.5s`, in nanoseconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let next = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(next);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i64>().ok() };
        let fraction = fraction.get(..18).unwrap_or(fraction);
        let places = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        nanos += i128::from(digits(whole)?) * scale + i128::from(digits(fraction)?) * scale / places;
        rest = tail;
    }
    i64::try_from(nanos * sign).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("1h30m", 5_400_000_000_000),
            ("+1.5s", 1_500_000_000),
            ("-300ms", -300_000_000),
            (".5us", 500),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
        for text in ["", "-", "1", "x", "1x", ".s", "1..2s", "9999999999h", "1h-2m", "1hä", "2024-01-02"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
