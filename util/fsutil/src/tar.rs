//! Tar archives with the bytes that Go's `archive/tar` writes: USTAR where that can express an
//! entry, PAX otherwise. Format: POSIX.1-2001, "pax Interchange Format".

use std::collections::BTreeMap;
use std::io::{Read, Write};

use buildkit_util_fsutil_types::Stat;

use crate::{Error, FileSystem, mode};

const BLOCK: usize = 512;

/// Writes a tree as a tar archive. Directories' names end with a slash, extended attributes are PAX
/// records, times are rounded to seconds. Entries for which `keep` is false are left out.
///
/// # Errors
/// Those of the tree and the writer, and when a file changes its size meanwhile.
pub fn write_tar(
    fs: &dyn FileSystem,
    writer: &mut dyn Write,
    mut keep: impl FnMut(&Stat) -> bool,
) -> Result<(), Error> {
    crate::walk_all(fs, |stat| {
        if !keep(&stat) {
            return Ok(());
        }
        let header = Header::new(&stat);
        let fail = |error| Error::io("write file header", &stat.path, error);
        writer.write_all(&header.encode()).map_err(fail)?;
        if header.kind == b'0' && header.size > 0 {
            copy_content(fs, writer, &stat.path, header.size)?;
        }
        Ok(())
    })?;
    writer.write_all(&[0; 2 * BLOCK]).map_err(|error| Error::io("write", "", error))
}

/// The blocks before the content of an entry, which is filled up with zeros to whole blocks of 512 bytes.
/// An archive ends with two blocks of zeros.
pub fn tar_header(stat: &Stat) -> Vec<u8> {
    Header::new(stat).encode()
}

fn copy_content(fs: &dyn FileSystem, writer: &mut dyn Write, path: &str, size: u64) -> Result<(), Error> {
    let mut file = fs.open(path)?;
    let mut buffer = vec![0; 128 << 10];
    let mut left = size;
    let changed = || Error::io("read", path, std::io::Error::other("file changed while it was read"));
    loop {
        let len = file.read(&mut buffer).map_err(|error| Error::io("read", path, error))?;
        if len == 0 {
            break;
        }
        left = left.checked_sub(len as u64).ok_or_else(changed)?;
        writer.write_all(&buffer[..len]).map_err(|error| Error::io("write", path, error))?;
    }
    if left > 0 {
        return Err(changed());
    }
    let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
    writer.write_all(&[0; BLOCK][..padding]).map_err(|error| Error::io("write", path, error))
}

struct Header {
    name: String,
    link: String,
    kind: u8,
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    time: i64,
    devmajor: u64,
    devminor: u64,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Header {
    fn new(stat: &Stat) -> Self {
        let mut name = stat.path.clone();
        let kind = if mode::is_dir(stat.mode) {
            if !name.ends_with('/') {
                name.push('/');
            }
            b'5'
        } else if mode::is_symlink(stat.mode) {
            b'2'
        } else if !stat.linkname.is_empty() {
            b'1'
        } else if stat.mode & mode::CHAR_DEVICE != 0 {
            b'3'
        } else if stat.mode & mode::DEVICE != 0 {
            b'4'
        } else if stat.mode & mode::NAMED_PIPE != 0 {
            b'6'
        } else {
            b'0'
        };
        Self {
            name,
            link: stat.linkname.clone(),
            kind,
            mode: mode::permissions(stat.mode).into(),
            uid: stat.uid.into(),
            gid: stat.gid.into(),
            size: if kind == b'0' { u64::try_from(stat.size).unwrap_or(0) } else { 0 },
            time: round_to_seconds(stat.mod_time),
            devmajor: u64::try_from(stat.devmajor).unwrap_or(0),
            devminor: u64::try_from(stat.devminor).unwrap_or(0),
            xattrs: stat
                .xattrs
                .iter()
                .map(|(key, value)| (format!("SCHILY.xattr.{key}"), value.to_vec()))
                .collect(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut ustar = self.xattrs.is_empty();
        let mut records: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        let split = split_ustar_path(&self.name);
        if !self.name.is_ascii() || self.name.len() > 100 {
            ustar &= split.is_some();
            records.insert("path", self.name.clone().into_bytes());
        }
        if !self.link.is_ascii() || self.link.len() > 100 {
            ustar = false;
            records.insert("linkpath", self.link.clone().into_bytes());
        }
        for (key, value, width) in [("uid", self.uid, 8), ("gid", self.gid, 8), ("size", self.size, 12)] {
            if !fits_octal(width, value) {
                ustar = false;
                records.insert(key, value.to_string().into_bytes());
            }
        }
        if !u64::try_from(self.time).is_ok_and(|time| fits_octal(12, time)) {
            ustar = false;
            records.insert("mtime", self.time.to_string().into_bytes());
        }
        if ustar {
            let (prefix, name) = match split {
                Some((prefix, name)) => (prefix, name),
                None => ("", self.name.as_str()),
            };
            return self.block(prefix, name, &self.link).to_vec();
        }
        let mut body = Vec::new();
        for (key, value) in &self.xattrs {
            records.insert(key, value.clone());
        }
        for (key, value) in &records {
            push_record(&mut body, key, value);
        }
        let (dir, file) = self.name.rsplit_once('/').map_or(("", self.name.as_str()), |parts| parts);
        let extended_name = buildkit_util_system::path::join([dir, &format!("PaxHeaders.0/{file}")]);
        let extended_name = ascii(&extended_name);
        let cut = &extended_name[..extended_name.len().min(100)];
        let mut out = Self {
            name: cut.trim_end_matches('/').to_owned(),
            link: String::new(),
            kind: b'x',
            mode: 0,
            uid: 0,
            gid: 0,
            size: body.len() as u64,
            time: 0,
            devmajor: 0,
            devminor: 0,
            xattrs: Vec::new(),
        }
        .extended_block()
        .to_vec();
        out.extend_from_slice(&body);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out.extend_from_slice(&self.block("", &ascii(&self.name), &ascii(&self.link)));
        out
    }

    fn block(&self, prefix: &str, name: &str, link: &str) -> [u8; BLOCK] {
        let mut block = self.plain(name, link);
        octal(&mut block[329..337], self.devmajor);
        octal(&mut block[337..345], self.devminor);
        text(&mut block[345..500], prefix);
        seal(&mut block);
        block
    }

    /// The block before PAX records, without device numbers.
    fn extended_block(&self) -> [u8; BLOCK] {
        let mut block = self.plain(&self.name, "");
        seal(&mut block);
        block
    }

    fn plain(&self, name: &str, link: &str) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        text(&mut block[..100], name);
        octal(&mut block[100..108], self.mode);
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], u64::try_from(self.time).unwrap_or(0));
        block[156] = self.kind;
        text(&mut block[157..257], link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block
    }
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block[148..155], sum);
}

/// Nanoseconds to seconds, halves away from zero as Go rounds.
fn round_to_seconds(nanoseconds: i64) -> i64 {
    // Go rounds towards the later second at a half, whichever side of 1970.
    let (seconds, rest) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    seconds + i64::from(rest >= 500_000_000)
}

fn fits_octal(width: u32, value: u64) -> bool {
    value >> ((width - 1) * 3) == 0
}

/// A number that does not fit is zero; a PAX record has it.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let fits = value.checked_shr(digits as u32 * 3).unwrap_or(0) == 0;
    let text = format!("{:0digits$o}", if fits { value } else { 0 });
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

fn text(field: &mut [u8], value: &str) {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value.as_bytes()[..len]);
    // Some readers take a cut name that ends with a slash for a directory.
    if value.len() > field.len() {
        let end = field.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
        if end < field.len() {
            field[end] = 0;
        }
    }
}

fn ascii(value: &str) -> String {
    value.chars().filter(|c| c.is_ascii() && *c != '\0').collect()
}

/// Prefix and name of a long path, if it can be cut at a slash.
fn split_ustar_path(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 || !path.is_ascii() {
        return None;
    }
    let mut end = path.len();
    if end > 156 {
        end = 156;
    } else if path.ends_with('/') {
        end -= 1;
    }
    let at = path[..end].rfind('/')?;
    let (prefix, name) = (&path[..at], &path[at + 1..]);
    (at > 0 && !name.is_empty() && name.len() <= 100 && prefix.len() <= 155).then_some((prefix, name))
}

/// `length key=value\n`, where the length counts itself.
fn push_record(body: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + rest.to_string().len();
    if len.to_string().len() != rest.to_string().len() {
        len = rest + len.to_string().len();
    }
    body.extend_from_slice(format!("{len} {key}=").as_bytes());
    body.extend_from_slice(value);
    body.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for len in [1usize, 90, 91, 92, 93, 94, 990, 995] {
            let mut body = Vec::new();
            push_record(&mut body, "k", &vec![b'v'; len]);
            let text = String::from_utf8_lossy(&body).into_owned();
            let (count, _) = text.split_once(' ').expect("has a count");
            assert_eq!(count.parse::<usize>().expect("a number"), body.len(), "{len}");
        }
    }

    #[test]
    fn fields() {
        let stat = Stat {
            path: "dir/file".to_owned(),
            mode: 0o644 | mode::SETUID,
            uid: 1000,
            gid: 0o7_777_777,
            size: 5,
            mod_time: 1_500_000_000,
            ..Stat::default()
        };
        let block = Header::new(&stat).encode();
        assert_eq!(block.len(), BLOCK);
        assert_eq!(&block[..9], b"dir/file\0");
        assert_eq!(&block[100..108], b"0004644\0");
        assert_eq!(&block[116..124], b"7777777\0");
        assert_eq!(&block[124..136], b"00000000005\0");
        assert_eq!(&block[136..148], b"00000000002\0");
        assert_eq!(block[156], b'0');
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u64::from(byte) })
            .sum();
        assert_eq!(&block[148..156], format!("{sum:06o}\0 ").as_bytes());
        let long = Stat { path: format!("{}/{}", "a".repeat(120), "b".repeat(90)), ..stat.clone() };
        assert_eq!(Header::new(&long).encode().len(), BLOCK);
        let longer = Stat { path: "c".repeat(120), uid: 0x7fff_ffff, ..stat };
        assert_eq!(Header::new(&longer).encode().len(), 3 * BLOCK);
    }
}
