//! A pseudo terminal between the runtime and the streams of a process.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use buildkit_util_appcontext::{TaskGuard, spawn};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that are moved at a time.
const CHUNK: usize = 16 << 10;

/// The side of the terminal that stands for the person.
#[derive(Clone)]
pub(crate) struct Terminal {
    master: Arc<AsyncFd<OwnedFd>>,
}

impl Terminal {
    /// Makes a terminal. The descriptor is the side of the process.
    pub(crate) fn open() -> std::io::Result<(Self, OwnedFd)> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(
            std::ffi::OsStr::from_bytes(name.as_bytes()),
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        // SAFETY: an OwnedFd returns the same descriptor each time and keeps it open until it is dropped,
        // and nothing here takes it out of the AsyncFd or replaces it.
        let master = unsafe { AsyncFd::register(master) }?;
        Ok((Self { master: Arc::new(master) }, slave))
    }

    /// Sets the size of the window.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> std::io::Result<()> {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.master.get_ref().as_fd(), size).map_err(Into::into)
    }

    /// Moves what the process writes to `output`, until no process has the terminal.
    pub(crate) fn pump_output(&self, mut output: Box<dyn AsyncWrite + Send + Unpin>) -> TaskGuard<()> {
        let master = self.master.clone();
        spawn(async move {
            let mut buffer = vec![0; CHUNK];
            let mut open = true;
            loop {
                let Ok(mut ready) = master.readable().await else { break };
                match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?)) {
                    Ok(Ok(0)) => break,
                    Ok(Ok(length)) => open = open && output.write_all(&buffer[..length]).await.is_ok(),
                    Ok(Err(error)) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                    // EIO is the end: the other side is closed.
                    Ok(Err(_)) => break,
                    Err(_would_block) => {}
                }
            }
            let _ = output.shutdown().await;
        })
    }

    /// Moves what `input` gives to the process, until its end.
    pub(crate) fn pump_input(&self, mut input: Box<dyn AsyncRead + Send + Unpin>) -> TaskGuard<()> {
        let master = self.master.clone();
        spawn(async move {
            let mut buffer = vec![0; CHUNK];
            while let Ok(length @ 1..) = input.read(&mut buffer).await {
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    let Ok(mut ready) = master.writable().await else { return };
                    match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), rest)?)) {
                        Ok(Ok(written)) => rest = &rest[written..],
                        Ok(Err(_)) => return,
                        Err(_would_block) => {}
                    }
                }
            }
        })
    }
}
