use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buildkit_errdefs::{Classify, Kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY: i64 = 86_400;
/// First second that has no RFC 3339 form: years have four digits.
const END: i64 = 253_402_300_800;
/// First second of year 0.
const START: i64 = -62_167_219_200;

/// A time with the bytes that Go writes: RFC 3339, nanoseconds without zeros at the end, and the offset
/// that it was read with. Times compare by when they are.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    /// Seconds since 1970.
    seconds: i64,
    /// Below 1000000000.
    nanoseconds: u32,
    /// How much later clocks are there than in UTC.
    offset_minutes: i32,
}

/// A text is no time of RFC 3339, or a time has no such text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid time {0:?}: it must be RFC 3339")]
pub struct ParseTimestampError(String);

impl Classify for ParseTimestampError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Timestamp {
    /// Seconds since 1970, in UTC.
    ///
    /// # Errors
    /// If its year has not four digits.
    pub fn from_seconds(seconds: i64) -> Result<Self, ParseTimestampError> {
        let time = Self { seconds, nanoseconds: 0, offset_minutes: 0 };
        if (START..END).contains(&seconds) { Ok(time) } else { Err(ParseTimestampError(seconds.to_string())) }
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    fn key(self) -> (i64, u32) {
        (self.seconds, self.nanoseconds)
    }
}

/// In UTC. What is out of the range of four digits for a year becomes 1970.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => (seconds, 0),
                    nanoseconds => (seconds - 1, 1_000_000_000 - nanoseconds),
                }
            }
        };
        let nanoseconds = if (START..END).contains(&seconds) { nanoseconds } else { 0 };
        let seconds = if (START..END).contains(&seconds) { seconds } else { 0 };
        Self { seconds, nanoseconds, offset_minutes: 0 }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let since = Duration::from_secs(time.seconds.unsigned_abs());
        let second = if time.seconds < 0 { UNIX_EPOCH - since } else { UNIX_EPOCH + since };
        second + Duration::from_nanos(time.nanoseconds.into())
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.offset_minutes) * 60;
        let (year, month, day) = date_of(local.div_euclid(DAY));
        let second = local.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds > 0 {
            let digits = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        match self.offset_minutes {
            0 => f.write_str("Z"),
            offset => {
                let sign = if offset < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
            }
        }
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        parse(text).ok_or_else(|| ParseTimestampError(text.chars().take(64).collect()))
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, len: usize| -> Option<i64> {
        let digits = bytes.get(from..from + len)?;
        digits.iter().all(u8::is_ascii_digit).then_some(())?;
        Some(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    };
    let is = |at: usize, byte: u8| (bytes.get(at) == Some(&byte)).then_some(());
    for (at, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        is(at, byte)?;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let is_valid = (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    is_valid.then_some(())?;
    let mut at = 19;
    let mut nanoseconds = 0;
    if is(at, b'.').is_some() {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        (digits > 0).then_some(())?;
        // What is less than a nanosecond is cut.
        let kept = digits.min(9);
        nanoseconds = u32::try_from(number(at + 1, kept)?).ok()? * 10u32.pow(9 - kept as u32);
        at += 1 + digits;
    }
    let offset_minutes = match bytes.get(at..)? {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), rest @ ..] if rest.len() == 5 && rest[2] == b':' => {
            let (hours, minutes) = (number(at + 1, 2)?, number(at + 4, 2)?);
            (hours < 24 && minutes < 60).then_some(())?;
            let offset = i32::try_from(hours * 60 + minutes).ok()?;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let local = days_until(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    Some(Timestamp { seconds: local - i64::from(offset_minutes) * 60, nanoseconds, offset_minutes })
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to a date of the Gregorian calendar. Years begin in March here, so that the odd day
/// of leap years is their last.
fn days_until(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// Year, month and day that is so many days after 1970 began.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        for (text, written, seconds) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.120000000Z", "2000-02-29T23:59:59.12Z", 951_868_799),
            ("2000-02-29T23:59:59.000Z", "2000-02-29T23:59:59Z", 951_868_799),
            ("2024-03-01T01:30:00+02:00", "2024-03-01T01:30:00+02:00", 1_709_249_400),
            ("2024-02-29T20:00:00.5-03:30", "2024-02-29T20:00:00.5-03:30", 1_709_249_400),
            ("2024-02-29T23:30:00+00:00", "2024-02-29T23:30:00Z", 1_709_249_400),
            ("1969-12-31T23:59:59.1234567899Z", "1969-12-31T23:59:59.123456789Z", -1),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", START),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", END - 1),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.to_string(), written);
            assert_eq!(time.seconds(), seconds, "{text}");
        }
        for text in [
            "",
            "2000-01-01",
            "2000-01-01t00:00:00Z",
            "2000-01-01T00:00:00",
            "2001-02-29T00:00:00Z",
            "2000-13-01T00:00:00Z",
            "2000-01-01T24:00:00Z",
            "2000-01-01T00:00:60Z",
            "2000-01-01T00:00:00.Z",
            "2000-01-01T00:00:00,5Z",
            "2000-01-01T00:00:00+24:00",
            "2000-01-01T00:00:00+0100",
            "2000-01-01T00:00:00Zx",
            "20é0-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_day_is_found_again() {
        for day in (START / DAY..END / DAY).step_by(97) {
            let time = Timestamp::from_seconds(day * DAY).unwrap();
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
        assert!(Timestamp::from_seconds(END).is_err());
        assert!(Timestamp::from_seconds(i64::MIN).is_err());
    }

    #[test]
    fn system_times_are_in_utc() {
        let before = UNIX_EPOCH - Duration::from_millis(250);
        assert_eq!(Timestamp::from(before).to_string(), "1969-12-31T23:59:59.75Z");
        assert_eq!(SystemTime::from(Timestamp::from(before)), before);
        let after = UNIX_EPOCH + Duration::new(1_709_249_400, 70);
        assert_eq!(Timestamp::from(after).to_string(), "2024-02-29T23:30:00.00000007Z");
        let late = UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX) * 1000);
        assert_eq!(Timestamp::from(late).seconds(), 0);
        let parse = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(parse("2024-01-01T00:00:00+01:00") < parse("2024-01-01T00:00:00Z"));
    }
}
