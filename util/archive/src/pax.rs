//! PAX records.

use std::collections::BTreeMap;

use crate::header::Time;
use crate::{Header, Malformed};

pub(crate) const SPARSE: &[u8] = b"GNU.sparse.";
pub(crate) const SPARSE_MAP: &[u8] = b"GNU.sparse.map";
const SPARSE_OFFSET: &[u8] = b"GNU.sparse.offset";
const SPARSE_BYTES: &[u8] = b"GNU.sparse.numbytes";

pub(crate) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Whether a record can be told from others: its key is not ambiguous, and texts have no NUL.
pub(crate) fn is_valid(key: &[u8], value: &[u8]) -> bool {
    if key.is_empty() || key.contains(&b'=') {
        return false;
    }
    let text = if matches!(key, b"path" | b"linkpath" | b"uname" | b"gname") { value } else { key };
    !text.contains(&0)
}

/// Reads `length key=value\n` one after the other.
pub(crate) fn parse(mut rest: &[u8]) -> Result<Records, Malformed> {
    let mut records = Records::new();
    // The first sparse format has a record for each number; the second has them all in one.
    let mut map: Vec<&[u8]> = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().take(20).position(|&byte| byte == b' ').ok_or(Malformed::Pax)?;
        let digits = &rest[..space];
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(Malformed::Pax);
        }
        let length: usize = number(digits).ok_or(Malformed::Pax)?;
        let record = rest.get(space + 1..length).ok_or(Malformed::Pax)?;
        let record = record.strip_suffix(b"\n").ok_or(Malformed::Pax)?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or(Malformed::Pax)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if !is_valid(key, value) {
            return Err(Malformed::Pax);
        }
        rest = &rest[length..];
        if key == SPARSE_OFFSET || key == SPARSE_BYTES {
            let expected = if map.len().is_multiple_of(2) { SPARSE_OFFSET } else { SPARSE_BYTES };
            if key != expected || value.contains(&b',') {
                return Err(Malformed::Sparse);
            }
            map.push(value);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
    }
    if !map.is_empty() {
        records.insert(SPARSE_MAP.to_vec(), map.join(&b','));
    }
    Ok(records)
}

/// Lets records take the place of what the header has. An empty value takes none.
pub(crate) fn merge(header: &mut Header, records: Records) -> Result<(), Malformed> {
    for (key, value) in &records {
        if value.is_empty() {
            continue;
        }
        match key.as_slice() {
            b"path" => header.name.clone_from(value),
            b"linkpath" => header.link.clone_from(value),
            b"uname" => header.uname.clone_from(value),
            b"gname" => header.gname.clone_from(value),
            b"uid" => header.uid = number(value).ok_or(Malformed::Pax)?,
            b"gid" => header.gid = number(value).ok_or(Malformed::Pax)?,
            b"size" => header.size = number(value).ok_or(Malformed::Pax)?,
            b"mtime" => header.mtime = Some(parse_time(value)?),
            b"atime" => header.atime = Some(parse_time(value)?),
            b"ctime" => header.ctime = Some(parse_time(value)?),
            _ => {}
        }
    }
    header.records = records;
    Ok(())
}

/// Refuses records for all that follows which would change what entries there are: GNU tar heeds them, Go does not.
pub(crate) fn check_global(records: &Records) -> Result<(), Malformed> {
    let is_entry =
        |key: &[u8]| matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(crate::sparse::SPARSE);
    if records.keys().any(|key| is_entry(key)) { Err(Malformed::Pax) } else { Ok(()) }
}

pub(crate) fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A decimal fraction of seconds; digits beyond nanoseconds are dropped.
fn parse_time(text: &[u8]) -> Result<Time, Malformed> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    let seconds: i64 = number(whole).ok_or(Malformed::Pax)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Pax);
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    if nanoseconds == 0 || !whole.starts_with(b"-") {
        return Ok(Time { seconds, nanoseconds });
    }
    // A negative fraction, counted forward from the second before.
    let seconds = seconds.checked_sub(1).ok_or(Malformed::Pax)?;
    Ok(Time { seconds, nanoseconds: 1_000_000_000 - nanoseconds })
}

pub(crate) fn format_time(time: Time) -> Vec<u8> {
    let Time { seconds, nanoseconds } = time;
    if nanoseconds == 0 {
        return seconds.to_string().into_bytes();
    }
    let text = if seconds < 0 {
        format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
    } else {
        format!("{seconds}.{nanoseconds:09}")
    };
    text.trim_end_matches('0').to_owned().into_bytes()
}

/// Appends `length key=value\n`, where the length counts itself.
pub(crate) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for length in (0..120).chain(980..1010).chain(9980..10010) {
            let mut out = Vec::new();
            let value = vec![b'v'; length];
            push(&mut out, b"k", &value);
            let records = parse(&out).expect("valid");
            assert_eq!(records.get(b"k".as_slice()), Some(&value), "{length}");
        }
    }

    #[test]
    fn times() {
        let cases = [
            ("1", 1, 0),
            ("1.5", 1, 500_000_000),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
            ("0.0000000019", 0, 1),
        ];
        for (text, seconds, nanoseconds) in cases {
            let time = Time { seconds, nanoseconds };
            assert_eq!(parse_time(text.as_bytes()), Ok(time), "{text}");
            if text.len() < 10 {
                assert_eq!(format_time(time), text.as_bytes());
            }
        }
        for text in ["", "x", "1.x", ".5", "1.-5", "99999999999999999999"] {
            assert_eq!(parse_time(text.as_bytes()), Err(Malformed::Pax), "{text}");
        }
    }

    #[test]
    fn a3_02_malformed_records_are_refused() {
        let cases: [&[u8]; 12] = [
            b"5 a=b\n",
            b"7 a=b\n",
            b"6 a=b",
            b"6 a=bX",
            b" 6 a=b\n",
            b"+6 a=b\n",
            b"6 =ab\n",
            b"5 ab\n",
            b"11 path=a\0\n",
            b"7 a\0=b\n",
            b"99999999999999999999999 a=b\n",
            b"0 a=b\n",
        ];
        for case in cases {
            assert!(parse(case).is_err(), "{}", String::from_utf8_lossy(case));
        }
        assert!(parse(b"6 a=b\n").is_ok());
    }
}
