//! Headers with the bytes that Go's `archive/tar` writes: USTAR if it can express an entry, else PAX, else
//! GNU, as far as the entry's format allows.

use std::collections::BTreeMap;

use crate::header::{Format, Header, Time, is_header_only, kind};
use crate::pax;

pub(crate) const BLOCK: usize = 512;
/// Bytes at most of what describes an entry: PAX records, long names, maps of holes.
pub(crate) const MAX_SPECIAL: usize = 1 << 20;
const NAME: usize = 100;
const PREFIX: usize = 155;

/// The blocks before the content of an entry.
///
/// # Errors
/// Why no format, or not the one that the header asks for, can express it.
pub(crate) fn encode(header: &Header) -> Result<Vec<u8>, &'static str> {
    let mut header = header.clone();
    if header.kind == kind::OLD_REGULAR {
        header.kind = if header.name.ends_with(b"/") { kind::DIRECTORY } else { kind::REGULAR };
    }
    if header.format == Format::UNKNOWN {
        header.mtime = header.mtime.map(Time::round);
        (header.atime, header.ctime) = (None, None);
    }
    let Choice { format, records } = choose(&header)?;
    if format.has(Format::USTAR) {
        Ok(encode_ustar(&header))
    } else if format.has(Format::PAX) {
        encode_pax(&header, &records)
    } else if format.has(Format::GNU) {
        encode_gnu(&header)
    } else {
        Err("no format of tar can express it")
    }
}

/// Formats that can express an entry, and the records that PAX needs for it.
struct Choice {
    format: Format,
    records: pax::Records,
}

impl Choice {
    /// Of a text that has a field of `size` bytes, and for which PAX has a record.
    fn text(&mut self, header: &Header, value: &[u8], size: usize, key: &[u8]) {
        let long = value.len() > size;
        if value.contains(&0) || (long && key != b"path" && key != b"linkpath") {
            self.format = self.format.without(Format::GNU);
        }
        if long || !is_ascii(value) {
            if key != b"path" || split_ustar(value).is_none() {
                self.format = self.format.without(Format::USTAR);
            }
            self.records.insert(key.to_vec(), value.to_vec());
        }
        self.keep(header, key, value);
    }

    /// Of a number that has a field of `size` bytes, and for which PAX has a record if there is a key.
    fn number(&mut self, header: &Header, value: i64, size: usize, key: Option<&[u8]>) {
        if !fits_base256(size, value) {
            self.format = self.format.without(Format::GNU);
        }
        if !fits_octal(size, value) {
            self.format = self.format.without(Format::USTAR);
            match key {
                Some(key) => drop(self.records.insert(key.to_vec(), value.to_string().into_bytes())),
                None => self.format = self.format.without(Format::PAX),
            }
        }
        if let Some(key) = key {
            self.keep(header, key, value.to_string().as_bytes());
        }
    }

    /// Whether only PAX has the whole time.
    fn time(&mut self, header: &Header, time: Option<Time>, key: &[u8]) -> bool {
        let Some(time) = time.filter(|time| !is_zero(*time)) else { return false };
        let fits = fits_octal(12, time.seconds);
        let modified = key == b"mtime";
        if !modified || !fits {
            self.format = self.format.without(Format::USTAR);
        }
        let prefer = !modified || !fits || time.nanoseconds != 0;
        let text = pax::format_time(time);
        self.keep(header, key, &text);
        if prefer {
            self.records.insert(key.to_vec(), text);
        }
        prefer
    }

    /// Records that say what is the case stay.
    fn keep(&mut self, header: &Header, key: &[u8], value: &[u8]) {
        if header.records.get(key).is_some_and(|record| record == value) {
            self.records.insert(key.to_vec(), value.to_vec());
        }
    }
}

fn choose(header: &Header) -> Result<Choice, &'static str> {
    let mut choice = Choice { format: Format::ANY, records: BTreeMap::new() };
    choice.text(header, &header.name, NAME, b"path");
    choice.text(header, &header.link, NAME, b"linkpath");
    choice.text(header, &header.uname, 32, b"uname");
    choice.text(header, &header.gname, 32, b"gname");
    choice.number(header, header.mode, 8, None);
    choice.number(header, header.uid, 8, Some(b"uid"));
    choice.number(header, header.gid, 8, Some(b"gid"));
    choice.number(header, header.size, 12, Some(b"size"));
    choice.number(header, header.devmajor, 8, None);
    choice.number(header, header.devminor, 8, None);
    let mut prefer_pax = choice.time(header, header.mtime, b"mtime");
    prefer_pax |= choice.time(header, header.atime, b"atime");
    prefer_pax |= choice.time(header, header.ctime, b"ctime");

    match header.kind {
        kind::REGULAR | kind::CHAR_DEVICE | kind::BLOCK_DEVICE | kind::FIFO | kind::GNU_SPARSE
            if header.name.ends_with(b"/") =>
        {
            return Err("its name has a slash at the end, and it is not a directory");
        }
        kind::PAX | kind::GNU_LONG_NAME | kind::GNU_LONG_LINK => return Err("it only describes an entry"),
        kind::PAX_GLOBAL => choice.format = choice.format.and(Format::PAX),
        _ => {}
    }
    if !is_header_only(header.kind) && header.size < 0 {
        return Err("its size is negative");
    }
    if !header.records.is_empty() {
        for (key, value) in &header.records {
            let basic = matches!(
                key.as_slice(),
                b"path"
                    | b"linkpath"
                    | b"size"
                    | b"uid"
                    | b"gid"
                    | b"uname"
                    | b"gname"
                    | b"mtime"
                    | b"atime"
                    | b"ctime"
            );
            if header.kind == kind::PAX_GLOBAL || !(basic || key.starts_with(pax::SPARSE)) {
                choice.records.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        choice.format = choice.format.and(Format::PAX);
    }
    if !choice.records.iter().all(|(key, value)| pax::is_valid(key, value)) {
        return Err("a PAX record of it is invalid");
    }
    if header.format != Format::UNKNOWN {
        let mut wanted = header.format;
        if wanted.has(Format::PAX) && !prefer_pax {
            wanted = wanted.or(Format::USTAR);
        }
        choice.format = choice.format.and(wanted);
    }
    Ok(choice)
}

fn encode_ustar(header: &Header) -> Vec<u8> {
    let (prefix, name) = split_ustar(&header.name).unwrap_or((b"", &header.name));
    let mut block = template(header, name, &header.link, &header.uname, &header.gname, octal);
    put_text(&mut block[345..500], prefix);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block.to_vec()
}

fn encode_pax(header: &Header, records: &pax::Records) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    let global = header.kind == kind::PAX_GLOBAL;
    if global || !records.is_empty() {
        let mut body = Vec::new();
        for (key, value) in records {
            pax::push(&mut body, key, value);
        }
        if body.len() > MAX_SPECIAL {
            return Err("its PAX records are too long");
        }
        let name = if !global {
            let cut = header.name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let (dir, file) = header.name.split_at(cut);
            clean(&[dir, b"PaxHeaders.0/", file].concat())
        } else if header.name.is_empty() {
            b"GlobalHead.0.0".to_vec()
        } else {
            header.name.clone()
        };
        let kind = if global { kind::PAX_GLOBAL } else { kind::PAX };
        push_special(&mut out, &name, kind, &body, b"ustar\x0000");
        if global {
            return Ok(out);
        }
    }
    let texts = [&header.name, &header.link, &header.uname, &header.gname].map(|text| to_ascii(text));
    let [name, link, uname, gname] = &texts;
    let mut block = template(header, name, link, uname, gname, octal);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    out.extend_from_slice(&block);
    Ok(out)
}

fn encode_gnu(header: &Header) -> Result<Vec<u8>, &'static str> {
    const MAGIC: &[u8; 8] = b"ustar  \0";
    let mut out = Vec::new();
    for (text, kind) in [(&header.name, kind::GNU_LONG_NAME), (&header.link, kind::GNU_LONG_LINK)] {
        if text.len() > NAME {
            let mut body = text.clone();
            body.push(0);
            push_special(&mut out, b"././@LongLink", kind, &body, MAGIC);
        }
    }
    let mut block = template(header, &header.name, &header.link, &header.uname, &header.gname, numeric);
    for (time, at) in [(header.atime, 345), (header.ctime, 357)] {
        if let Some(time) = time.filter(|time| !is_zero(*time)) {
            numeric(&mut block[at..at + 12], time.seconds);
        }
    }
    block[257..265].copy_from_slice(MAGIC);
    seal(&mut block);
    out.extend_from_slice(&block);
    Ok(out)
}

/// An entry that describes the next one.
fn push_special(out: &mut Vec<u8>, name: &[u8], kind: u8, body: &[u8], magic: &[u8; 8]) {
    let mut block = [0; BLOCK];
    let name = to_ascii(name);
    let name = &name[..name.len().min(NAME)];
    let end = name.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    put_text(&mut block[..NAME], &name[..end]);
    block[156] = kind;
    octal(&mut block[100..108], 0);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], i64::try_from(body.len()).unwrap_or(0));
    octal(&mut block[136..148], 0);
    block[257..265].copy_from_slice(magic);
    seal(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

fn template(
    header: &Header,
    name: &[u8],
    link: &[u8],
    uname: &[u8],
    gname: &[u8],
    put_number: fn(&mut [u8], i64),
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let seconds = header.mtime.filter(|time| !is_zero(*time)).map_or(0, |time| time.seconds);
    put_text(&mut block[..NAME], name);
    put_number(&mut block[100..108], header.mode);
    put_number(&mut block[108..116], header.uid);
    put_number(&mut block[116..124], header.gid);
    put_number(&mut block[124..136], header.size);
    put_number(&mut block[136..148], seconds);
    block[156] = header.kind;
    put_text(&mut block[157..257], link);
    put_text(&mut block[265..297], uname);
    put_text(&mut block[297..329], gname);
    put_number(&mut block[329..337], header.devmajor);
    put_number(&mut block[337..345], header.devminor);
    block
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: i64 = block.iter().map(|&byte| i64::from(byte)).sum();
    octal(&mut block[148..155], sum);
}

/// Go's zero time, the first of January of the year 1, stands for no time.
fn is_zero(time: Time) -> bool {
    time == Time::from_seconds(-62_135_596_800)
}

fn fits_octal(size: usize, value: i64) -> bool {
    u64::try_from(value).is_ok_and(|value| value >> ((size - 1) * 3) == 0)
}

fn fits_base256(size: usize, value: i64) -> bool {
    let bits = (size - 1) * 8;
    size > 8 || (-(1 << bits)..1 << bits).contains(&value)
}

/// A number that does not fit is zero; a PAX record has it.
fn octal(field: &mut [u8], value: i64) {
    let digits = field.len() - 1;
    let value = if fits_octal(field.len(), value) { value } else { 0 };
    field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    field[digits] = 0;
}

fn numeric(field: &mut [u8], value: i64) {
    if fits_octal(field.len(), value) || !fits_base256(field.len(), value) {
        return octal(field, value);
    }
    let bytes = value.to_be_bytes();
    let fill = if value < 0 { 0xff } else { 0 };
    for (at, byte) in field.iter_mut().rev().enumerate() {
        *byte = bytes.len().checked_sub(at + 1).map_or(fill, |at| bytes[at]);
    }
    field[0] |= 0x80;
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    // Some readers take a cut name that ends with a slash for a directory.
    if text.len() > field.len() {
        let end = field.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        if end < field.len() {
            field[end] = 0;
        }
    }
}

fn is_ascii(text: &[u8]) -> bool {
    text.is_ascii() && !text.contains(&0)
}

fn to_ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|&byte| byte.is_ascii() && byte != 0).collect()
}

/// Prefix and name of a long path, if it can be cut at a slash.
fn split_ustar(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME || !is_ascii(path) {
        return None;
    }
    let mut end = path.len();
    if end > PREFIX + 1 {
        end = PREFIX + 1;
    } else if path.ends_with(b"/") {
        end -= 1;
    }
    let at = path[..end].iter().rposition(|&byte| byte == b'/')?;
    let (prefix, name) = (&path[..at], &path[at + 1..]);
    (at > 0 && !name.is_empty() && name.len() <= NAME && prefix.len() <= PREFIX).then_some((prefix, name))
}

/// A path without empty, `.` and `..` components, as Go's `path.Clean` makes it.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(last) if *last != b"..".as_slice() => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let mut out = if rooted { b"/".to_vec() } else { Vec::new() };
    out.extend_from_slice(&parts.join(&b'/'));
    if out.is_empty() {
        out.push(b'.');
    }
    out
}
