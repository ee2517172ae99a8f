//! The table of contents of `EStargz` (stargz-snapshotter, `docs/estargz.md`, "TOC").

use std::collections::HashMap;

use buildkit_util_archive::{Header, Time, kind};
use buildkit_util_cachedigest::Digest;
use buildkit_util_gojson::{Array, Base64, GoString, Object};

/// Name of the entry that has it.
pub(crate) const TOC_NAME: &[u8] = b"stargz.index.json";

/// A file, or a part of one that is not its first.
#[derive(Debug)]
pub(crate) struct Entry {
    pub header: Header,
    /// It is not the first part.
    pub chunk: bool,
    /// The member that begins with its content.
    pub member: Option<usize>,
    pub chunk_offset: u64,
    /// Zero if it goes to the end of the file.
    pub chunk_size: u64,
    pub chunk_digest: Option<Digest>,
    /// Of the whole file.
    pub digest: Option<Digest>,
}

impl Entry {
    pub(crate) fn new(header: Header) -> Self {
        Self {
            header,
            chunk: false,
            member: None,
            chunk_offset: 0,
            chunk_size: 0,
            chunk_digest: None,
            digest: None,
        }
    }
}

/// What an entry is called there, if it can be in one.
pub(crate) fn type_of(header: &Header) -> Option<&'static str> {
    Some(match header.kind {
        kind::REGULAR => "reg",
        kind::LINK => "hardlink",
        kind::SYMLINK => "symlink",
        kind::CHAR_DEVICE => "char",
        kind::BLOCK_DEVICE => "block",
        kind::DIRECTORY => "dir",
        kind::FIFO => "fifo",
        _ => return None,
    })
}

/// The table as JSON; `offsets` has where each member begins.
pub(crate) fn encode(entries: &[Entry], offsets: &[u64]) -> String {
    let mut out = String::new();
    let mut object = Object::new(&mut out);
    object.field("version", &1);
    // Names of owners are there once, until they change.
    let (mut users, mut groups) = (HashMap::new(), HashMap::new());
    object.array("entries", |array: &mut Array<'_>| {
        for entry in entries {
            array.object(|object| write_entry(object, entry, offsets, &mut users, &mut groups));
        }
    });
    drop(object);
    out
}

fn write_entry<'a>(
    object: &mut Object<'_>,
    entry: &'a Entry,
    offsets: &[u64],
    users: &mut HashMap<i64, &'a [u8]>,
    groups: &mut HashMap<i64, &'a [u8]>,
) {
    let header = &entry.header;
    object.field("name", &GoString(&header.name));
    if entry.chunk {
        object.field("type", "chunk");
    } else {
        object.field("type", type_of(header).unwrap_or_default());
        if header.kind == kind::REGULAR {
            object.omit_empty("size", &header.size);
        }
        object.omit_empty("modtime", header.mtime.and_then(rfc3339).unwrap_or_default().as_str());
        if matches!(header.kind, kind::LINK | kind::SYMLINK) {
            object.omit_empty("linkName", &GoString(&header.link));
        }
        object.omit_empty("mode", &header.mode);
        object.omit_empty("uid", &header.uid);
        object.omit_empty("gid", &header.gid);
        for (field, id, name, known) in
            [("userName", header.uid, &header.uname, users), ("groupName", header.gid, &header.gname, groups)]
        {
            if !name.is_empty() && known.insert(id, name) != Some(name) {
                object.field(field, &GoString(name));
            }
        }
    }
    if let Some(offset) = entry.member.and_then(|member| offsets.get(member)) {
        object.omit_empty("offset", offset);
    }
    if !entry.chunk {
        if matches!(header.kind, kind::CHAR_DEVICE | kind::BLOCK_DEVICE) {
            object.omit_empty("devMajor", &header.devmajor);
            object.omit_empty("devMinor", &header.devminor);
        }
        let xattrs: Vec<_> = header
            .records
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?, value)))
            .collect();
        if !xattrs.is_empty() {
            object.object("xattrs", |object| {
                for (name, value) in xattrs {
                    object.field(&String::from_utf8_lossy(name), &Base64(value));
                }
            });
        }
        if let Some(digest) = &entry.digest {
            object.field("digest", digest.as_str());
        }
    }
    object.omit_empty("chunkOffset", &entry.chunk_offset);
    object.omit_empty("chunkSize", &entry.chunk_size);
    if let Some(digest) = &entry.chunk_digest {
        object.field("chunkDigest", digest.as_str());
    }
}

/// Whole seconds, or nothing for 1970 and what has no four digits for its year.
fn rfc3339(time: Time) -> Option<String> {
    let seconds = time.seconds.checked_add(i64::from(time.nanoseconds >= 500_000_000))?;
    if time.seconds == 0 || !(-62_135_596_800..253_402_300_800).contains(&seconds) {
        return None;
    }
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since the first of March of the year 0, in eras of 400 years (Hinnant, "chrono-Compatible Low-Level Date
    // Algorithms", `civil_from_days`).
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let cases = [
            (1, "1970-01-01T00:00:01Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_600_000_000, "2020-09-13T12:26:40Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, expect) in cases {
            assert_eq!(rfc3339(Time::from_seconds(seconds)).as_deref(), Some(expect));
        }
        assert_eq!(
            rfc3339(Time { seconds: 1, nanoseconds: 500_000_000 }).as_deref(),
            Some("1970-01-01T00:00:02Z")
        );
        assert_eq!(rfc3339(Time::default()), None);
        assert_eq!(rfc3339(Time::from_seconds(i64::MAX)), None);
    }
}
