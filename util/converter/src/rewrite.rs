use std::io::{Read, Write};

use buildkit_util_archive::{Chunk, Error, Reader, Time, Writer, kind};
use buildkit_util_compression::Limits;

/// Zeros that a hole becomes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes an archive again with no time later than `epoch` (seconds since 1970), and reads the input to its end.
///
/// Headers come out as Go's `archive/tar` writes what it has read, as in the original: in the dialect that they had,
/// without uncommon forms. Sparse files become whole ones.
///
/// # Errors
/// When the archive is not valid, cannot be written in its dialect, or `input` or `out` fails.
pub fn rewrite_times(input: impl Read, out: impl Write, epoch: i64, limits: Limits) -> Result<(), Error> {
    let epoch = Time::from_seconds(epoch);
    let mut reader = Reader::new(input).with_limits(limits);
    let mut writer = Writer::new(out);
    while let Some(mut header) = reader.entry()? {
        for time in [&mut header.mtime, &mut header.atime, &mut header.ctime] {
            *time = time.map(|time| time.min(epoch));
        }
        if header.kind == kind::GNU_SPARSE {
            header.kind = kind::REGULAR;
        }
        writer.entry(&header)?;
        while let Some(chunk) = reader.chunk()? {
            match chunk {
                Chunk::Data(bytes) => writer.content(bytes)?,
                Chunk::Hole(mut left) => {
                    while left > 0 {
                        let count = left.min(ZEROS.len() as u64);
                        writer.content(&ZEROS[..usize::try_from(count).unwrap_or(0)])?;
                        left -= count;
                    }
                }
            }
        }
    }
    writer.finish()?;
    reader.drain()
}
