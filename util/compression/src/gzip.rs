//! gzip on several threads (RFC 1952, RFC 1951).
//!
//! The content is cut into blocks of a fixed size. Each is compressed by itself, and their streams are joined to
//! one member: not all that reads layers knows that gzip can have several.

use std::io::{self, Write};

use crc32fast::Hasher;

use crate::pool::{Block, Deflate, Done, Pool};

/// Bytes of a block. The output depends on it.
const BLOCK: usize = 2 << 20;

/// Magic, deflate, no flags, no time, no extra flags, unknown system: the same as Go's library writes.
pub(crate) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Writes one member of gzip.
pub(crate) struct GzipWriter<W: Write> {
    out: W,
    pool: Pool,
    block: Vec<u8>,
    spare: Vec<Vec<u8>>,
    crc: Hasher,
    length: u64,
    level: u32,
    started: bool,
}

impl<W: Write> GzipWriter<W> {
    pub(crate) fn new(out: W, level: u32, threads: Option<usize>) -> Self {
        Self {
            out,
            pool: Pool::new(level, threads),
            block: Vec::new(),
            spare: Vec::new(),
            crc: Hasher::new(),
            length: 0,
            level,
            started: false,
        }
    }

    pub(crate) fn get_ref(&self) -> &W {
        &self.out
    }

    /// Hands the current block on to be compressed.
    fn submit(&mut self, last: bool) -> io::Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            self.out.write_all(&HEADER)?;
        }
        let data = std::mem::replace(&mut self.block, self.spare.pop().unwrap_or_default());
        let block = Block { data, last };
        // What fits into one block needs no thread.
        if last && !self.pool.is_running() {
            let done = Deflate::new(self.level).compress(block)?;
            return self.put(done);
        }
        while self.pool.is_full() {
            self.take_first()?;
        }
        self.pool.submit(block)
    }

    /// Whether there was a block to take.
    fn take_first(&mut self) -> io::Result<bool> {
        match self.pool.take()? {
            Some(done) => self.put(done).map(|()| true),
            None => Ok(false),
        }
    }

    fn put(&mut self, done: Done) -> io::Result<()> {
        self.out.write_all(&done.compressed)?;
        self.crc.combine(&done.crc);
        let mut data = done.data;
        self.length += data.len() as u64;
        data.clear();
        self.spare.push(data);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.submit(true)?;
        while self.take_first()? {}
        self.out.write_all(&self.crc.clone().finalize().to_le_bytes())?;
        // The length is modulo 2^32.
        self.out.write_all(&(self.length as u32).to_le_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.capacity() < BLOCK {
            self.block.reserve_exact(BLOCK);
        }
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        // Not before there is more: the last block is marked.
        if self.block.len() == BLOCK && count < bytes.len() {
            self.submit(false)?;
            return self.write(&bytes[count..]).map(|more| count + more);
        }
        if count == 0 && !bytes.is_empty() {
            self.submit(false)?;
            return self.write(bytes);
        }
        Ok(count)
    }

    /// Does nothing: what is not a block yet cannot be written without changing the output.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
