use std::fmt;

/// The nanoseconds of the longest time, and one for the longest of the other sign.
const MAX: u64 = 1 << 63;

const NANOSECOND: u64 = 1;
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Why a text is no duration, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// It has not the form, or is longer than 292 years.
    Invalid(String),
    /// A number is followed by nothing.
    MissingUnit(String),
    /// A number is followed by something that is no unit.
    UnknownUnit {
        /// What follows it.
        unit: String,
        /// All of the text.
        text: String,
    },
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "time: invalid duration {}", Quoted(text)),
            Self::MissingUnit(text) => write!(f, "time: missing unit in duration {}", Quoted(text)),
            Self::UnknownUnit { unit, text } => {
                write!(f, "time: unknown unit {} in duration {}", Quoted(unit), Quoted(text))
            }
        }
    }
}

impl std::error::Error for DurationError {}

/// In quotes, with bytes that are not ASCII escaped: Go's package of times has its own way.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for byte in self.0.bytes() {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=b'~' | 0x7f => write!(f, "{}", char::from(byte))?,
                byte => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Nanoseconds of a time as Go's `time.ParseDuration` reads it: `1h30m`, `-1.5s`, `300ms`, `0`.
///
/// # Errors
/// It has not the form, or is too long.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, behind) = digits(rest);
        let (fraction, behind) = behind.strip_prefix('.').map_or(("", behind), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let nanoseconds = match unit {
            "" => return Err(DurationError::MissingUnit(text.to_owned())),
            "ns" => NANOSECOND,
            "us" | "µs" | "μs" => MICROSECOND,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            other => {
                return Err(DurationError::UnknownUnit { unit: other.to_owned(), text: text.to_owned() });
            }
        };
        let number = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| invalid())? };
        let part = number
            .checked_mul(nanoseconds)
            .and_then(|part| part.checked_add(part_of(fraction, nanoseconds)))
            .filter(|part| *part <= MAX)
            .ok_or_else(invalid)?;
        total = total.checked_add(part).filter(|total| *total <= MAX).ok_or_else(invalid)?;
        rest = behind;
    }
    if negative {
        return Ok(0_i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| invalid())
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The decimals `digits` of a unit. Those behind the ones that fit are left out.
fn part_of(digits: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0_u64, 1_f64);
    for digit in digits.bytes().take(18) {
        value = value * 10 + u64::from(digit - b'0');
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

/// A time of so many nanoseconds as Go's `%v` writes it, such as `1h0m0s` or `1.5ms`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let text = match total {
        0 => "0s".to_owned(),
        1..MICROSECOND => format!("{total}ns"),
        MICROSECOND..MILLISECOND => format!("{}µs", decimal(total, MICROSECOND)),
        MILLISECOND..SECOND => format!("{}ms", decimal(total, MILLISECOND)),
        _ => {
            let (minutes, seconds) = (total / MINUTE, decimal(total % MINUTE, SECOND));
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// So many of a unit, without zeros at the end.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_in_go() {
        for (text, expected) in [
            ("0", 0),
            ("-0", 0),
            ("1h30m", 5_400_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("-1.5ms", -1_500_000),
            ("+.5us", 500),
            ("1.s", 1_000_000_000),
            ("1µs", 1_000),
            ("1μs1ns", 1_001),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.000000000000000000000001h", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            (".s", "time: invalid duration \".s\""),
            ("x", "time: invalid duration \"x\""),
            ("1h-2m", "time: unknown unit \"h-\" in duration \"1h-2m\""),
            ("10", "time: missing unit in duration \"10\""),
            ("1..2s", "time: missing unit in duration \"1..2s\""),
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
            ("2024-01-02", "time: unknown unit \"-\" in duration \"2024-01-02\""),
            ("1ß", "time: unknown unit \"\\xc3\\x9f\" in duration \"1\\xc3\\x9f\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
        ] {
            let error = parse_duration(text).map_err(|error| error.to_string());
            assert_eq!(error, Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn times_are_written_as_in_go() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (1_005, "1.005µs"),
            (2_000_000, "2ms"),
            (300_000_000, "300ms"),
            (1_000_000_000, "1s"),
            (-1_500_000_000, "-1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_500_000_000, "1h1m1.5s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_duration(nanos), expected);
            assert_eq!(parse_duration(expected), Ok(nanos), "{expected}");
        }
    }
}
