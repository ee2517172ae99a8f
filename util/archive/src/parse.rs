//! Blocks that are headers.

use crate::Malformed;
use crate::encode::{BLOCK, MAX_SPECIAL};
use crate::header::{Format, Header, Time, kind};

/// Bytes of the longest path: the kernel takes no longer ones.
const MAX_PATH: usize = 4096;

/// How many bytes after a block describe the next entry together with it; nothing if it is the header of the entry
/// itself. For those who read an archive as it arrives.
///
/// # Errors
/// When the block is no header, or describes an entry with more than 1 MiB.
pub fn description_size(block: &[u8; BLOCK]) -> Result<Option<usize>, Malformed> {
    let header = parse_block(block)?;
    if !matches!(header.kind, kind::PAX | kind::PAX_GLOBAL | kind::GNU_LONG_NAME | kind::GNU_LONG_LINK) {
        return Ok(None);
    }
    let size = usize::try_from(header.size).map_err(|_| Malformed::Number)?;
    if size > MAX_SPECIAL { Err(Malformed::TooLong) } else { Ok(Some(size.next_multiple_of(BLOCK))) }
}

pub(crate) fn check_path(path: &[u8]) -> Result<(), Malformed> {
    if path.len() > MAX_PATH { Err(Malformed::TooLong) } else { Ok(()) }
}

pub(crate) fn parse_block(block: &[u8; BLOCK]) -> Result<Header, Malformed> {
    let expected = parse_octal(&block[148..156]).map_err(|_| Malformed::Header)?;
    let with_spaces = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
    let bytes = || block.iter().enumerate().map(|(at, &byte)| with_spaces(at, byte));
    let unsigned: i64 = bytes().map(i64::from).sum();
    // Some old programs summed signed bytes.
    if expected != unsigned && expected != bytes().map(|byte| i64::from(byte.cast_signed())).sum() {
        return Err(Malformed::Header);
    }
    let mut header = Header {
        kind: block[156],
        name: text(&block[..100]),
        link: text(&block[157..257]),
        size: parse_numeric(&block[124..136])?,
        mode: parse_numeric(&block[100..108])?,
        uid: parse_numeric(&block[108..116])?,
        gid: parse_numeric(&block[116..124])?,
        mtime: Some(Time::from_seconds(parse_numeric(&block[136..148])?)),
        ..Header::default()
    };
    let ustar = &block[257..263] == b"ustar\0";
    let star = ustar && &block[508..512] == b"tar\0";
    let gnu = &block[257..265] == b"ustar  \0";
    if !ustar && !gnu {
        return Ok(header);
    }
    header.uname = text(&block[265..297]);
    header.gname = text(&block[297..329]);
    header.devmajor = parse_numeric(&block[329..337])?;
    header.devminor = parse_numeric(&block[337..345])?;
    let mut prefix = Vec::new();
    if star {
        prefix = text(&block[345..476]);
        header.atime = Some(Time::from_seconds(parse_numeric(&block[476..488])?));
        header.ctime = Some(Time::from_seconds(parse_numeric(&block[488..500])?));
    } else if ustar {
        prefix = text(&block[345..500]);
        // Only what is just so may be written as it was.
        let numbers_end = [107, 115, 123, 135, 147, 336, 344].iter().all(|&end| block[end] == 0);
        if numbers_end && block.is_ascii() {
            header.format = Format::USTAR.or(Format::PAX);
        }
    } else {
        let time = |field: &[u8]| {
            if field[0] == 0 { Ok(None) } else { parse_numeric(field).map(Time::from_seconds).map(Some) }
        };
        match (time(&block[345..357]), time(&block[357..369])) {
            (Ok(atime), Ok(ctime)) => {
                (header.atime, header.ctime) = (atime, ctime);
                header.format = Format::GNU;
            }
            // Old versions of Go wrote a prefix there.
            _ => prefix = Some(text(&block[345..500])).filter(|text| text.is_ascii()).unwrap_or_default(),
        }
    }
    if !prefix.is_empty() {
        prefix.push(b'/');
        prefix.append(&mut header.name);
        header.name = prefix;
    }
    Ok(header)
}

/// A text up to its NUL.
pub(crate) fn text(field: &[u8]) -> Vec<u8> {
    field.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

/// A number in octal digits, or in binary if the first bit says so.
pub(crate) fn parse_numeric(field: &[u8]) -> Result<i64, Malformed> {
    let Some(&first) = field.first().filter(|&&first| first & 0x80 != 0) else { return parse_octal(field) };
    let invert = if first & 0x40 != 0 { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (at, byte) in field.iter().enumerate() {
        let byte = (byte ^ invert) & if at == 0 { 0x7f } else { 0xff };
        if value >> 56 > 0 {
            return Err(Malformed::Number);
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| Malformed::Number)?;
    Ok(if invert == 0 { value } else { !value })
}

fn parse_octal(field: &[u8]) -> Result<i64, Malformed> {
    let is_fill = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !is_fill(byte)) else { return Ok(0) };
    let end = field.iter().rposition(|byte| !is_fill(byte)).map_or(start, |last| last + 1);
    let digits = field[start..end].split(|&byte| byte == 0).next().unwrap_or_default();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value << 3 | i64::from(digit - b'0')),
        _ => Err(Malformed::Number),
    })
}
