use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{SeekFrom as RawSeek, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

/// Files from this size on are worth an attempt to share their blocks.
const CLONE_FROM: u64 = 16 << 10;

/// Memory for content on its way from file to file.
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn new() -> Self {
        Self(vec![0; 64 << 10])
    }
}

/// What the two file systems can do for each other, learnt from what failed.
#[derive(Debug)]
pub(crate) struct Means {
    link: AtomicBool,
    clone: AtomicBool,
    range: AtomicBool,
}

impl Means {
    pub(crate) fn new() -> Self {
        let yes = || AtomicBool::new(true);
        Self { link: yes(), clone: yes(), range: yes() }
    }

    /// Whether a file of the one may have a name in the other.
    pub(crate) fn may_link(&self) -> bool {
        self.link.load(Ordering::Relaxed)
    }

    pub(crate) fn cannot_link(&self) {
        self.link.store(false, Ordering::Relaxed);
    }

    /// Fills an empty file with the content of another: by sharing its blocks, by a copy in the
    /// kernel, or by reading and writing. Holes stay holes.
    pub(crate) fn copy(
        &self,
        source: &mut File,
        target: &mut File,
        size: u64,
        blocks: u64,
        buffer: &mut Buffer,
    ) -> io::Result<()> {
        let may_clone = size >= CLONE_FROM && self.clone.load(Ordering::Relaxed);
        let is_sparse = blocks.saturating_mul(512) < size && size > 4096;
        if size < buffer.0.len() as u64 && !may_clone && !is_sparse {
            return copy_small(source, target, size, buffer);
        }
        if may_clone {
            match ioctl_ficlone(&*target, &*source) {
                Ok(()) => return Ok(()),
                // Some only refuse this file; that is not worth telling apart.
                Err(_) => self.clone.store(false, Ordering::Relaxed),
            }
        }
        if is_sparse {
            return self.copy_sparse(source, target, size, buffer);
        }
        self.copy_span(source, target, size, buffer)?;
        copy_rest(source, target, buffer)
    }

    fn copy_sparse(
        &self,
        source: &mut File,
        target: &mut File,
        size: u64,
        buffer: &mut Buffer,
    ) -> io::Result<()> {
        let mut at = 0;
        while at < size {
            let data = match seek(&*source, RawSeek::Data(at)) {
                Ok(data) => data,
                // Only a hole is left.
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => {
                    source.seek(SeekFrom::Start(at))?;
                    target.seek(SeekFrom::Start(at))?;
                    return copy_rest(source, target, buffer);
                }
                Err(error) => return Err(error.into()),
            };
            let hole = seek(&*source, RawSeek::Hole(data))?.min(size);
            source.seek(SeekFrom::Start(data))?;
            target.seek(SeekFrom::Start(data))?;
            self.copy_span(source, target, hole.saturating_sub(data), buffer)?;
            at = hole.max(data + 1);
        }
        target.set_len(size)
    }

    /// Copies `length` bytes, or up to the end, from where both files are.
    fn copy_span(
        &self,
        source: &mut File,
        target: &mut File,
        length: u64,
        buffer: &mut Buffer,
    ) -> io::Result<()> {
        let mut left = length;
        while self.range.load(Ordering::Relaxed) && left > 0 {
            let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
            match copy_file_range(&*source, None, &*target, None, chunk) {
                // The end, or a file system that cannot say; reading tells.
                Ok(0) => break,
                Ok(copied) => left -= (copied as u64).min(left),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(
                    Errno::NOSYS
                    | Errno::XDEV
                    | Errno::PERM
                    | Errno::IO
                    | Errno::OPNOTSUPP
                    | Errno::INVAL
                    | Errno::BADF,
                ) => self.range.store(false, Ordering::Relaxed),
                Err(error) => return Err(error.into()),
            }
        }
        if left > 0 {
            copy_bytes(&mut source.take(left), target, buffer)?;
        }
        Ok(())
    }
}

/// What was appended meanwhile, or all of a file that does not know its size.
fn copy_rest(source: &mut File, target: &mut File, buffer: &mut Buffer) -> io::Result<()> {
    copy_bytes(source, target, buffer)
}

/// Copies a file that fits into the buffer with room to spare: one that knows its size needs no second
/// look to be at its end.
fn copy_small(source: &mut File, target: &mut File, size: u64, buffer: &mut Buffer) -> io::Result<()> {
    let len = loop {
        match source.read(&mut buffer.0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    target.write_all(&buffer.0[..len])?;
    let complete = len as u64 >= size && len < buffer.0.len();
    if len == 0 || (complete && size > 0) { Ok(()) } else { copy_rest(source, target, buffer) }
}

fn copy_bytes(source: &mut impl Read, target: &mut File, buffer: &mut Buffer) -> io::Result<()> {
    loop {
        match source.read(&mut buffer.0) {
            Ok(0) => return Ok(()),
            Ok(len) => target.write_all(&buffer.0[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
