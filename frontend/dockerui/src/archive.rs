/// Bytes of a header of a tar archive.
const BLOCK: usize = 512;
/// Where its checksum is.
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// Where its kind of entry is.
const KIND: usize = 156;
/// Numbers that every header has: mode, owner, group, size and time.
const NUMBERS: [std::ops::Range<usize>; 5] = [100..108, 108..116, 116..124, 124..136, 136..148];

/// Whether a file that begins so is an archive: compressed by bzip2, gzip or xz, or a tar archive.
///
/// A tar archive is one that begins with the header of a file. The original takes none that begins with more about
/// the next header, and what is one decides what a context is.
pub(crate) fn is_archive(header: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 3] = [b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\0"];
    COMPRESSED.iter().any(|magic| header.starts_with(magic)) || is_tar(header)
}

fn is_tar(header: &[u8]) -> bool {
    let Some(block) = header.get(..BLOCK) else { return false };
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| u64::from(if CHECKSUM.contains(&at) { b' ' } else { *byte }))
        .sum();
    // Old programs took bytes as signed.
    let signed_sum: i64 = block
        .iter()
        .enumerate()
        .map(
            |(at, byte)| if CHECKSUM.contains(&at) { i64::from(b' ') } else { i64::from(byte.cast_signed()) },
        )
        .sum();
    let Some(wanted) = octal(&block[CHECKSUM]) else { return false };
    let is_sum = wanted == sum || i64::try_from(wanted) == Ok(signed_sum);
    let is_number =
        |field: &[u8]| field.first().is_some_and(|byte| byte & 0x80 != 0) || octal(field).is_some();
    is_sum
        && block.iter().any(|byte| *byte != 0)
        && !matches!(block[KIND], b'x' | b'L' | b'K')
        && NUMBERS.into_iter().all(|field| is_number(&block[field]))
}

/// The number in a field: octal digits with blanks and zeros around.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    // What follows a zero is not read.
    let text = text.split('\0').next().unwrap_or_default();
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header as programs of today write it.
    fn tar_header(kind: u8) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..4].copy_from_slice(b"file");
        for (field, text) in [(100, "0000644\0"), (108, "0001750\0"), (116, "0001750\0")] {
            block[field..field + 8].copy_from_slice(text.as_bytes());
        }
        block[124..136].copy_from_slice(b"00000000005\0");
        block[136..148].copy_from_slice(b"14371573720\0");
        block[KIND] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    #[test]
    fn archives_are_known_by_their_beginning() {
        assert!(is_archive(b"BZh91AY"));
        assert!(is_archive(b"\x1f\x8b\x08\0"));
        assert!(is_archive(b"\xfd7zXZ\0\0"));
        assert!(is_archive(&tar_header(b'0')));
        assert!(is_archive(&tar_header(b'5')));
        assert!(!is_archive(&tar_header(b'x')));
        assert!(!is_archive(&tar_header(b'0')[..511]));
        let mut damaged = tar_header(b'0');
        damaged[0] = b'F';
        assert!(!is_archive(&damaged));
        assert!(!is_archive(b"FROM scratch\n"));
        assert!(!is_archive(b""));
        assert!(!is_archive(&[0; 1024]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_told(start in proptest::collection::vec(any::<u8>(), 0..600), change in 0..512usize) {
            let _ = is_archive(&start);
            let mut header = tar_header(b'0');
            header[change] ^= 0x55;
            let _ = is_archive(&header);
        }
    }
}
