use std::io::{self, Write};

use crate::encode::GZIP_LEVEL;
use crate::gzip::HEADER;
use crate::pool::{Block, Done, Pool};

/// Writes members of gzip that can each be decompressed alone, on all processors. What comes out depends on the
/// level and on what is in each member only.
pub struct GzipMembers<W: Write> {
    out: W,
    pool: Pool,
    position: u64,
    offsets: Vec<u64>,
    spare: Vec<Vec<u8>>,
}

impl<W: Write> GzipMembers<W> {
    /// A writer of members to `out`. Levels are those of [`Config`](crate::Config).
    pub fn new(out: W, level: Option<i32>) -> Self {
        // The bounds make it fit.
        let level = level.unwrap_or(GZIP_LEVEL).clamp(0, 9) as u32;
        Self { out, pool: Pool::new(level, None), position: 0, offsets: Vec::new(), spare: Vec::new() }
    }

    /// An empty buffer for the next member, with room from an earlier one if there is any.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Adds a member with this content, which is held until it is compressed.
    ///
    /// # Errors
    /// When a member cannot be compressed or written.
    pub fn push(&mut self, data: Vec<u8>) -> io::Result<()> {
        while self.pool.is_full() {
            self.take_first()?;
        }
        self.pool.submit(Block { data, last: true })
    }

    /// Writes what is left, and gives back where it was written to, and at which byte each member begins; behind
    /// them all, at which byte the last one ends.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> io::Result<(W, Vec<u64>)> {
        while self.take_first()? {}
        self.offsets.push(self.position);
        Ok((self.out, self.offsets))
    }

    fn take_first(&mut self) -> io::Result<bool> {
        let Some(Done { compressed, crc, mut data }) = self.pool.take()? else { return Ok(false) };
        self.offsets.push(self.position);
        self.out.write_all(&HEADER)?;
        self.out.write_all(&compressed)?;
        self.out.write_all(&crc.finalize().to_le_bytes())?;
        // The length is modulo 2^32.
        self.out.write_all(&(data.len() as u32).to_le_bytes())?;
        self.position += (HEADER.len() + compressed.len() + 8) as u64;
        data.clear();
        self.spare.push(data);
        Ok(true)
    }
}
