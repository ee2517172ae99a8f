use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use crate::encode::{BLOCK, encode};
use crate::header::is_header_only;
use crate::{Error, Header};

/// Writes an archive, entry by entry. Without [`finish`](Self::finish) it has no end.
pub struct Writer<W: Write> {
    out: W,
    /// Bytes of content that the current entry still needs.
    left: u64,
    /// Bytes to the end of its last block.
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// A writer of an archive to `out`, which should not be slow with small writes.
    pub fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Begins an entry. Its content of `header.size` bytes follows, unless it is of a type that has none.
    ///
    /// # Errors
    /// When no format can express the entry, the one before is not complete, or `out` fails.
    pub fn entry(&mut self, header: &Header) -> Result<(), Error> {
        self.pad()?;
        let blocks = encode_header(header)?;
        self.out.write_all(&blocks).map_err(Error::Write)?;
        let has_content = !is_header_only(header.kind) && header.kind != crate::kind::PAX_GLOBAL;
        self.left = if has_content { u64::try_from(header.size).unwrap_or(0) } else { 0 };
        self.padding = (BLOCK - (self.left % BLOCK as u64) as usize) % BLOCK;
        Ok(())
    }

    /// Writes content of the current entry.
    ///
    /// # Errors
    /// When it is more than was announced, or `out` fails.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| misused("too much content"))?;
        self.out.write_all(bytes).map_err(Error::Write)
    }

    /// Ends the archive and gives back what it was written to.
    ///
    /// # Errors
    /// When the last entry is not complete, or `out` fails.
    pub fn finish(mut self) -> Result<W, Error> {
        self.pad()?;
        self.out.write_all(&[0; 2 * BLOCK]).map_err(Error::Write)?;
        Ok(self.out)
    }

    /// Fills the last block of the current entry.
    fn pad(&mut self) -> Result<(), Error> {
        if self.left > 0 {
            return Err(misused("too little content"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&[0; BLOCK][..padding]).map_err(Error::Write)
    }
}

/// The blocks before the content of an entry, which is filled up with zeros to whole blocks of 512 bytes. An archive
/// ends with two blocks of zeros.
///
/// # Errors
/// When no format can express the entry.
pub fn encode_header(header: &Header) -> Result<Vec<u8>, Error> {
    encode(header)
        .map_err(|reason| Error::Unencodable { path: OsStr::from_bytes(&header.name).into(), reason })
}

fn misused(what: &'static str) -> Error {
    Error::Write(io::Error::new(io::ErrorKind::InvalidInput, format!("{what} for an entry")))
}
