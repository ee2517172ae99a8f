//! The form of entries in the database.
//!
//! Parts of a key are separated by NUL, which no digest has; a result's id stands last.
//! - links: `parent NUL child NUL input NUL output NUL digest NUL selector` → nothing
//! - records: `key NUL result` → seconds (u64), nanoseconds (u32), priority (i32), big endian
//! - preimages: `key` → text

use std::time::{Duration, SystemTime};

use buildkit_solver::{KeyId, Link, Record, ResultId};
use buildkit_util_cachedigest::Digest;

pub(crate) fn link_key(parent: &KeyId, link: &Link, child: &KeyId) -> Vec<u8> {
    let selector = link.selector.as_ref().map_or("", Digest::as_str);
    format!("{parent}\0{child}\0{}\0{}\0{}\0{selector}", link.input, link.output, link.digest).into_bytes()
}

pub(crate) fn parse_link(key: &[u8]) -> Option<(KeyId, Link, KeyId)> {
    let text = std::str::from_utf8(key).ok()?;
    let mut parts = text.split('\0');
    let mut digest = || Digest::parse(parts.next()?).ok();
    let (parent, child) = (KeyId(digest()?), KeyId(digest()?));
    let mut parts = text.split('\0').skip(2);
    let input = parts.next()?.parse().ok()?;
    let output = parts.next()?.parse().ok()?;
    let digest = Digest::parse(parts.next()?).ok()?;
    let selector = match parts.next()? {
        "" => None,
        text => Some(Digest::parse(text).ok()?),
    };
    Some((parent, Link { input, digest, output, selector }, child))
}

pub(crate) fn record_key(key: &KeyId, result: &ResultId) -> Vec<u8> {
    format!("{key}\0{}", result.0).into_bytes()
}

pub(crate) fn record_value(record: &Record) -> Vec<u8> {
    let age = record.created_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut value = age.as_secs().to_be_bytes().to_vec();
    value.extend(age.subsec_nanos().to_be_bytes());
    value.extend(record.priority.to_be_bytes());
    value
}

pub(crate) fn parse_record(key: &[u8], value: &[u8]) -> Option<(KeyId, Record)> {
    let (id, result) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    let id = KeyId(Digest::parse(id).ok()?);
    let (seconds, rest) = value.split_first_chunk()?;
    let (nanos, rest) = rest.split_first_chunk()?;
    let (priority, _) = rest.split_first_chunk()?;
    let nanos = u32::from_be_bytes(*nanos);
    if nanos >= 1_000_000_000 {
        return None;
    }
    let created_at =
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(u64::from_be_bytes(*seconds), nanos))?;
    let record =
        Record { result: ResultId(result.to_owned()), created_at, priority: i32::from_be_bytes(*priority) };
    Some((id, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let (parent, child) = (KeyId(Digest::sha256("p")), KeyId(Digest::from_hash("random", &[1; 32])));
        for selector in [None, Some(Digest::sha256("s"))] {
            let link = Link { input: 3, digest: Digest::sha256("d"), output: 1, selector };
            let read = parse_link(&link_key(&parent, &link, &child)).expect("reads");
            assert_eq!(read, (parent.clone(), link, child.clone()));
        }
        let created_at = SystemTime::UNIX_EPOCH + Duration::new(7, 9);
        let record = Record { result: ResultId("a\0b".into()), created_at, priority: -1 };
        let read = parse_record(&record_key(&parent, &record.result), &record_value(&record)).expect("reads");
        assert_eq!(read, (parent, record));
    }

    #[test]
    fn damage_is_no_entry() {
        for bad in [&b""[..], b"x", b"\xff\0", b"sha256:00\0", b"a:b\0a:b\0x\0", b"a:b\0a:b\x001\x001"] {
            assert!(parse_link(bad).is_none(), "{bad:?}");
            assert!(parse_record(bad, b"").is_none(), "{bad:?}");
        }
        assert!(parse_record(b"a:b\0r", &[255; 16]).is_none());
    }
}
