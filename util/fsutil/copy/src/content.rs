use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use rustix::fs::{SeekFrom as RawSeek, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

/// Files from this size on are worth an attempt to share their blocks.
const CLONE_FROM: u64 = 16 << 10;

/// What the two file systems can do for each other, learnt from what failed.
#[derive(Debug)]
pub(crate) struct Means {
    clone: bool,
    range: bool,
}

impl Means {
    pub(crate) fn new() -> Self {
        Self { clone: true, range: true }
    }

    /// Fills an empty file with the content of another: by sharing its blocks, by a copy in the
    /// kernel, or by reading and writing. Holes stay holes.
    pub(crate) fn copy(
        &mut self,
        source: &mut File,
        target: &mut File,
        size: u64,
        blocks: u64,
    ) -> io::Result<()> {
        if size == 0 {
            return copy_rest(source, target);
        }
        if self.clone && size >= CLONE_FROM {
            match ioctl_ficlone(&*target, &*source) {
                Ok(()) => return Ok(()),
                // Some only refuse this file; that is not worth telling apart.
                Err(_) => self.clone = false,
            }
        }
        if blocks.saturating_mul(512) < size && size > 4096 {
            return self.copy_sparse(source, target, size);
        }
        self.copy_span(source, target, size)?;
        copy_rest(source, target)
    }

    fn copy_sparse(&mut self, source: &mut File, target: &mut File, size: u64) -> io::Result<()> {
        let mut at = 0;
        while at < size {
            let data = match seek(&*source, RawSeek::Data(at)) {
                Ok(data) => data,
                // Only a hole is left.
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => {
                    source.seek(SeekFrom::Start(at))?;
                    target.seek(SeekFrom::Start(at))?;
                    return copy_rest(source, target);
                }
                Err(error) => return Err(error.into()),
            };
            let hole = seek(&*source, RawSeek::Hole(data))?.min(size);
            source.seek(SeekFrom::Start(data))?;
            target.seek(SeekFrom::Start(data))?;
            self.copy_span(source, target, hole.saturating_sub(data))?;
            at = hole.max(data + 1);
        }
        target.set_len(size)
    }

    /// Copies `length` bytes, or up to the end, from where both files are.
    fn copy_span(&mut self, source: &mut File, target: &mut File, length: u64) -> io::Result<()> {
        let mut left = length;
        while self.range && left > 0 {
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
                ) => self.range = false,
                Err(error) => return Err(error.into()),
            }
        }
        if left > 0 {
            copy_bytes(&mut source.take(left), target)?;
        }
        Ok(())
    }
}

/// What was appended meanwhile, or all of a file that does not know its size.
fn copy_rest(source: &mut File, target: &mut File) -> io::Result<()> {
    copy_bytes(source, target)
}

fn copy_bytes(source: &mut impl Read, target: &mut File) -> io::Result<()> {
    let mut buffer = [0; 64 << 10];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => target.write_all(&buffer[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
