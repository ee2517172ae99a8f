use std::io::{self, Read};

use crate::{BackgroundDigester, Digest};

/// Hashes what is read through it.
pub struct HashingReader<R> {
    inner: R,
    digester: BackgroundDigester,
}

impl<R> HashingReader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, digester: BackgroundDigester::new() }
    }

    /// The digest of all bytes read.
    pub fn finish(self) -> Digest {
        self.digester.finish()
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digester.update(&buffer[..count]);
        Ok(count)
    }
}
