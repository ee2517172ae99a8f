//! Maps of sparse files: which parts of them an archive has.

use std::collections::VecDeque;
use std::io::Read;

use crate::encode::{BLOCK, MAX_SPECIAL};
use crate::parse::parse_numeric;
use crate::pax::{SPARSE_MAP, number};
use crate::{Header, Malformed};

/// A part of a file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub offset: i64,
    pub length: i64,
}

pub(crate) type Map = VecDeque<Part>;

/// Where the map of a sparse file in PAX's format is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PaxMap {
    /// In its records.
    Records,
    /// Before its content.
    Content,
}

/// What all records about sparse files begin with.
pub(crate) const SPARSE: &[u8] = b"GNU.sparse.";

/// Whether an entry is a sparse file by its records, which say its name and size then.
pub(crate) fn pax_map(header: &mut Header) -> Result<Option<PaxMap>, Malformed> {
    let record = |key: &[u8]| header.records.get(key).map_or(&[][..], Vec::as_slice);
    let place = match (record(b"GNU.sparse.major"), record(b"GNU.sparse.minor")) {
        (b"0", b"0" | b"1") => PaxMap::Records,
        (b"1", b"0") => PaxMap::Content,
        (b"", b"") if !record(SPARSE_MAP).is_empty() => PaxMap::Records,
        // GNU tar heeds single records too, and Go takes versions that it does not know for plain files.
        _ if header.records.keys().any(|key| key.starts_with(SPARSE)) => return Err(Malformed::Sparse),
        _ => return Ok(None),
    };
    let name = record(b"GNU.sparse.name").to_vec();
    let size = [record(b"GNU.sparse.size"), record(b"GNU.sparse.realsize")]
        .into_iter()
        .find(|size| !size.is_empty())
        .map(|size| number(size).ok_or(Malformed::Sparse))
        .transpose()?;
    if !name.is_empty() {
        header.name = name;
    }
    if let Some(size) = size {
        header.size = size;
    }
    Ok(Some(place))
}

/// The map in PAX records: numbers with commas between them.
pub(crate) fn from_records(header: &Header) -> Result<Map, Malformed> {
    let count = header.records.get(b"GNU.sparse.numblocks".as_slice()).ok_or(Malformed::Sparse)?;
    let count: usize = number(count).ok_or(Malformed::Sparse)?;
    let text = header.records.get(SPARSE_MAP).map_or(&[][..], Vec::as_slice);
    if text.is_empty() {
        return if count == 0 { Ok(Map::new()) } else { Err(Malformed::Sparse) };
    }
    let numbers = text.split(|&byte| byte == b',').map(|text| number(text).ok_or(Malformed::Sparse));
    let map = pairs(numbers)?;
    if map.len() == count { Ok(map) } else { Err(Malformed::Sparse) }
}

fn pairs(mut numbers: impl Iterator<Item = Result<i64, Malformed>>) -> Result<Map, Malformed> {
    let mut map = Map::new();
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or(Malformed::Sparse)?;
        map.push_back(Part { offset: offset?, length: length? });
    }
    Ok(map)
}

/// The map before the content: lines with numbers, of which the first is how many parts there are, in whole
/// blocks. Returns what was read of the content.
pub(crate) fn from_content(input: &mut dyn Read, available: u64) -> Result<(Map, u64), FromContent> {
    let mut numbers: Vec<i64> = Vec::new();
    let mut line = Vec::new();
    let mut taken = 0;
    loop {
        taken += BLOCK as u64;
        if taken > available {
            return Err(Malformed::Truncated.into());
        }
        if taken > MAX_SPECIAL as u64 {
            return Err(Malformed::TooLong.into());
        }
        let mut block = [0; BLOCK];
        input.read_exact(&mut block)?;
        for byte in block {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            numbers.push(number(&line).ok_or(Malformed::Sparse)?);
            line.clear();
            let count = usize::try_from(numbers[0]).map_err(|_| Malformed::Sparse)?;
            // More would not fit into what a map may be.
            if count > MAX_SPECIAL / 4 {
                return Err(Malformed::TooLong.into());
            }
            if numbers.len() == 1 + 2 * count {
                return Ok((pairs(numbers.into_iter().skip(1).map(Ok))?, taken));
            }
        }
    }
}

/// Why a map before the content could not be read.
#[derive(Debug)]
pub(crate) enum FromContent {
    Malformed(Malformed),
    Io(std::io::Error),
}

impl From<Malformed> for FromContent {
    fn from(reason: Malformed) -> Self {
        Self::Malformed(reason)
    }
}

impl From<std::io::Error> for FromContent {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// The map in GNU's old format: four parts in the header's block, the rest in blocks behind it.
pub(crate) fn from_old_header(
    header: &mut Header,
    block: &[u8; BLOCK],
    mut next: impl FnMut() -> Result<[u8; BLOCK], FromContent>,
) -> Result<Map, FromContent> {
    header.size = parse_numeric(&block[483..495])?;
    let mut map = Map::new();
    push_old(&mut map, &block[386..482])?;
    let mut extended = block[482] > 0;
    let mut total = BLOCK;
    while extended {
        total += BLOCK;
        if total > MAX_SPECIAL {
            return Err(Malformed::TooLong.into());
        }
        let block = next()?;
        push_old(&mut map, &block[..504])?;
        extended = block[504] > 0;
    }
    Ok(map)
}

fn push_old(map: &mut Map, entries: &[u8]) -> Result<(), Malformed> {
    for entry in entries.chunks_exact(24).take_while(|entry| entry[0] != 0) {
        map.push_back(Part { offset: parse_numeric(&entry[..12])?, length: parse_numeric(&entry[12..])? });
    }
    Ok(())
}

/// Checks that parts are in order and within the file, and drops empty ones.
pub(crate) fn check(map: &mut Map, size: i64) -> Result<(), Malformed> {
    let mut end = 0;
    for part in &*map {
        let next = part.offset.checked_add(part.length).ok_or(Malformed::Sparse)?;
        if part.length < 0 || part.offset < end || next > size {
            return Err(Malformed::Sparse);
        }
        end = next;
    }
    map.retain(|part| part.length > 0);
    if size < 0 { Err(Malformed::Sparse) } else { Ok(()) }
}
