use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The directory of a group, held open: its files are reached without a walk from the root, and as
/// well when the process sees another file system tree meanwhile.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty());
        let descriptor = descriptor.map_err(|error| named("open", path, error))?;
        Ok(Self { path: path.to_owned(), descriptor })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The error of the kernel as it is, for those who go on after some.
    pub(crate) fn try_write(&self, file: &str, value: &str) -> Result<(), Errno> {
        write(&self.open_file(file, OFlags::WRONLY)?, value)
    }

    pub(crate) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        self.try_write(file, value).map_err(|error| self.unwritten(file, value, error))
    }

    /// A write per value, into a file that is opened once.
    pub(crate) fn write_all(&self, file: &str, values: impl Iterator<Item = String>) -> io::Result<()> {
        let opened = self.open_file(file, OFlags::WRONLY);
        let opened = opened.map_err(|error| named("open", &self.path.join(file), error))?;
        for value in values {
            write(&opened, &value).map_err(|error| self.unwritten(file, &value, error))?;
        }
        Ok(())
    }

    /// What to say when a value was not accepted.
    pub(crate) fn unwritten(&self, file: &str, value: &str, error: Errno) -> io::Error {
        named(&format!("write {:?} to", value.trim_end()), &self.path.join(file), error)
    }

    pub(crate) fn read(&self, file: &str) -> io::Result<String> {
        let read = || {
            let file = self.open_file(file, OFlags::RDONLY)?;
            let mut text = Vec::with_capacity(256);
            while rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text))? > 0 {
                text.reserve(256);
            }
            String::from_utf8(text).map_err(|_| Errno::ILSEQ)
        };
        read().map_err(|error| named("read", &self.path.join(file), error))
    }

    fn open_file(&self, file: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.descriptor, file, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }
}

fn write(file: &OwnedFd, value: &str) -> Result<(), Errno> {
    // The kernel takes a value as a whole, or not at all.
    rustix::io::write(file, value.as_bytes()).map(|_| ())
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// An error of the kernel with what it is about.
pub(crate) fn named(what: &str, path: &Path, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("failed to {what} {}: {error}", path.display()))
}
