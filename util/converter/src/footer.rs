//! The end of `EStargz`: an empty member of gzip that says where the table of contents begins (stargz-snapshotter,
//! `docs/estargz.md`, "Footer").

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use buildkit_util_archive::{Chunk, Reader};
use buildkit_util_compression::{Detected, Limits, limited_decoder};

use crate::toc::TOC_NAME;

const MAGIC: &[u8] = b"STARGZ";
const SIZE: usize = 51;
/// Without the name of the subfield; older programs wrote it so.
const OLD_SIZE: usize = 47;

pub(crate) fn encode(toc_offset: u64) -> [u8; SIZE] {
    let mut footer = [0; SIZE];
    // Magic, deflate, with an extra field.
    footer[..10].copy_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff]);
    footer[10..16].copy_from_slice(&[26, 0, b'S', b'G', 22, 0]);
    footer[16..32].copy_from_slice(format!("{toc_offset:016x}").as_bytes());
    footer[32..38].copy_from_slice(MAGIC);
    // One last block of deflate, stored, without content; checksum and length are zero.
    footer[38..43].copy_from_slice(&[1, 0, 0, 0xff, 0xff]);
    footer
}

/// Bytes of a blob that are its layer, if it is in `EStargz`: what is behind is the table of contents, which must be
/// the last entry, and the footer.
///
/// # Errors
/// When the blob cannot be read. A blob in another format, or damaged, is no error.
pub fn estargz_payload(blob: &mut (impl Read + Seek + Send)) -> io::Result<Option<u64>> {
    let size = blob.seek(SeekFrom::End(0))?;
    if size < SIZE as u64 {
        return Ok(None);
    }
    let mut footer = [0; SIZE];
    blob.seek(SeekFrom::End(-(SIZE as i64)))?;
    blob.read_exact(&mut footer)?;
    let Some(offset) = parse(&footer).filter(|&offset| offset < size) else { return Ok(None) };
    blob.seek(SeekFrom::Start(offset))?;
    let input = BufReader::new(blob.take(size - offset));
    let decoder = limited_decoder(Detected::Gzip, input, Limits::default())?;
    Ok(is_toc(decoder).then_some(offset))
}

fn parse(footer: &[u8; SIZE]) -> Option<u64> {
    let old = &footer[SIZE - OLD_SIZE..];
    let digits = if footer[..4] == [0x1f, 0x8b, 8, 4] && &footer[12..14] == b"SG" && &footer[32..38] == MAGIC
    {
        &footer[16..32]
    } else if old[..4] == [0x1f, 0x8b, 8, 4] && &old[28..34] == MAGIC {
        &old[12..28]
    } else {
        return None;
    };
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u64::from_str_radix(digits, 16).ok()
}

fn is_toc(input: impl Read) -> bool {
    let mut reader = Reader::new(input);
    let Ok(Some(header)) = reader.entry() else { return false };
    if header.name != TOC_NAME {
        return false;
    }
    while let Ok(Some(chunk)) = reader.chunk() {
        if matches!(chunk, Chunk::Hole(_)) {
            return false;
        }
    }
    matches!(reader.entry(), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footers() {
        for offset in [0, 1, 0xabcdef, u64::MAX] {
            assert_eq!(parse(&encode(offset)), Some(offset));
        }
        let mut old = [0; SIZE];
        old[4..14].copy_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff]);
        old[14] = 22;
        old[16..32].copy_from_slice(b"00000000000001ff");
        old[32..38].copy_from_slice(MAGIC);
        assert_eq!(parse(&old), Some(0x1ff));
        assert_eq!(parse(&[0; SIZE]), None);
    }
}
