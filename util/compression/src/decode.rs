use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// What a stream is compressed with, as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// None of the others.
    Plain,
    /// gzip, of any number of members.
    Gzip,
    /// bzip2, of any number of streams.
    Bzip2,
    /// xz, of any number of streams.
    Xz,
    /// zstd, of any number of frames.
    Zstd,
}

/// Memory that decompressing may take: archives of xz at its highest level need 65 MiB, those of zstd's
/// longest windows 128 MiB. Damaged or hostile ones ask for more.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// Largest window of zstd as a power of two: what its tools take without being told.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Tells a compression by the first bytes of a stream; six are enough.
pub fn detect(magic: &[u8]) -> Detected {
    match magic {
        [0x1f, 0x8b, 0x08, ..] => Detected::Gzip,
        [b'B', b'Z', b'h', ..] => Detected::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Detected::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Detected::Zstd,
        _ => Detected::Plain,
    }
}

/// Reads what a stream was before it was compressed. Members, streams and frames that follow each other
/// are read as one; anything else behind them is an error.
///
/// # Errors
/// When the decompressor cannot be made.
pub fn decoder<'a>(kind: Detected, input: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match kind {
        Detected::Plain => Box::new(input),
        Detected::Gzip => Box::new(MultiGzDecoder::new(input)),
        Detected::Bzip2 => Box::new(MultiBzDecoder::new(input)),
        Detected::Xz => Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)),
        Detected::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// How far content may grow when it is decompressed, so that a small file cannot fill a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Times its compressed size.
    pub ratio: u64,
    /// Bytes that are allowed whatever they were compressed to.
    pub after: u64,
}

impl Default for Limits {
    /// 200 times, after 1 GiB. Of what people build, nothing but files of zeros comes near.
    fn default() -> Self {
        Self { ratio: 200, after: 1 << 30 }
    }
}

impl Limits {
    /// Whether `produced` bytes may come of `consumed` bytes.
    pub fn allow(&self, consumed: u64, produced: u64) -> bool {
        produced <= self.after || produced / self.ratio.max(1) <= consumed
    }
}

/// As [`decoder`], with an error of the kind [`io::ErrorKind::FileTooLarge`] when content grows beyond limits.
///
/// # Errors
/// When the decompressor cannot be made.
pub fn limited_decoder<'a>(
    kind: Detected,
    input: impl BufRead + Send + 'a,
    limits: Limits,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let consumed = Arc::new(AtomicU64::new(0));
    let counted = Counted { input, consumed: consumed.clone() };
    Ok(Box::new(Limited { inner: decoder(kind, counted)?, consumed, produced: 0, limits }))
}

struct Counted<R> {
    input: R,
    consumed: Arc<AtomicU64>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.consumed.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.consumed.fetch_add(count as u64, Ordering::Relaxed);
        self.input.consume(count);
    }
}

struct Limited<'a> {
    inner: Box<dyn Read + Send + 'a>,
    consumed: Arc<AtomicU64>,
    produced: u64,
    limits: Limits,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.produced += count as u64;
        let consumed = self.consumed.load(Ordering::Relaxed);
        if self.limits.allow(consumed, self.produced) {
            return Ok(count);
        }
        let Self { produced, limits: Limits { ratio, .. }, .. } = self;
        Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{produced} bytes came of {consumed} compressed ones, more than {ratio} times as many"),
        ))
    }
}
