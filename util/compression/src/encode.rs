use std::io::{self, Write};

use crate::gzip::GzipWriter;
use crate::{Compression, Config};

/// Levels that are used when none is asked for. For gzip, this one compresses as well as zlib's usual 6 does, in
/// less time.
pub(crate) const GZIP_LEVEL: i32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// Bytes that one thread of zstd compresses by itself. The output depends on it, and not on how many
/// threads there are, as long as there is one.
const ZSTD_JOB: u32 = 4 << 20;

/// Compresses what is written to it. Without [`finish`](Self::finish) the output is incomplete.
pub struct Encoder<W: Write> {
    inner: Inner<W>,
}

enum Inner<W: Write> {
    Plain(W),
    Gzip(Box<GzipWriter<W>>),
    Zstd(Box<zstd::Encoder<'static, W>>),
}

impl<W: Write> Encoder<W> {
    /// An encoder that writes to `out`, on all processors. `EStargz` needs entries, not bytes, and is an
    /// error here: `buildkit-util-converter` has it.
    ///
    /// # Errors
    /// When the compressor cannot be made.
    pub fn new(config: Config, out: W) -> io::Result<Self> {
        Self::with_threads(config, out, None)
    }

    /// As [`new`](Self::new), on a number of threads. What comes out is the same.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_threads(config: Config, out: W, threads: Option<usize>) -> io::Result<Self> {
        let inner = match config.kind {
            Compression::Uncompressed => Inner::Plain(out),
            Compression::Gzip => {
                // The bounds make it fit.
                let level = config.level.unwrap_or(GZIP_LEVEL).clamp(0, 9) as u32;
                Inner::Gzip(Box::new(GzipWriter::new(out, level, threads)))
            }
            Compression::Zstd => {
                let level = config.level.unwrap_or(ZSTD_LEVEL).clamp(1, 22);
                let mut encoder = zstd::Encoder::new(out, level)?;
                let threads =
                    threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
                encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB))?;
                encoder.multithread(u32::try_from(threads.clamp(1, 16)).unwrap_or(1))?;
                encoder.include_checksum(true)?;
                Inner::Zstd(Box::new(encoder))
            }
            Compression::EStargz => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "estargz is made of entries, not of bytes",
                ));
            }
        };
        Ok(Self { inner })
    }

    /// Where the output goes.
    pub fn get_ref(&self) -> &W {
        match &self.inner {
            Inner::Plain(out) => out,
            Inner::Gzip(writer) => writer.get_ref(),
            Inner::Zstd(encoder) => encoder.get_ref(),
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(self) -> io::Result<W> {
        match self.inner {
            Inner::Plain(mut out) => out.flush().map(|()| out),
            Inner::Gzip(writer) => writer.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(out) => out.write(bytes),
            Inner::Gzip(writer) => writer.write(bytes),
            Inner::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing: a flush would change the output.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
