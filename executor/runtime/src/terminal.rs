//! Terminals of containers: made inside, moved to and fro outside.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use buildkit_util_system::Root;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::error::{Context, Error};

/// Type of the file systems in which terminals are, from `linux/magic.h`.
const DEVPTS: u64 = 0x1cd1;

/// Bytes that are moved at a time.
const CHUNK: usize = 16 << 10;

/// How often output is read after the end of the process. A terminal holds less.
const LAST_READS: usize = 64;

/// Makes a terminal in the container with this root: the side of those who look on, and that of the process.
pub(crate) fn open(root: &Root, size: Option<Winsize>) -> Result<(OwnedFd, OwnedFd), Error> {
    let action = "make a terminal";
    let multiplexer = root.resolve_no_follow("/dev/pts/ptmx").context(action)?;
    if rustix::fs::fstatfs(&multiplexer).context(action)?.f_type.cast_unsigned() != DEVPTS {
        return Err(Error::new("`/dev/pts/ptmx` makes no terminals").context(action));
    }
    let path = format!("/proc/self/fd/{}", multiplexer.as_fd().as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outside = rustix::fs::open(path.as_str(), flags, Mode::empty()).context(action)?;
    rustix::pty::unlockpt(&outside).context(action)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inside = rustix::pty::ioctl_tiocgptpeer(&outside, flags).context(action)?;
    if let Some(size) = size {
        rustix::termios::tcsetwinsize(&outside, size).context(action)?;
    }
    Ok((outside, inside))
}

/// Makes a terminal the one that this process is controlled by, and its streams.
pub(crate) fn control(inside: OwnedFd) -> Result<(), Error> {
    let action = "become controlled by the terminal";
    rustix::process::ioctl_tiocsctty(&inside).context(action)?;
    rustix::stdio::dup2_stdin(&inside).context(action)?;
    rustix::stdio::dup2_stdout(&inside).context(action)?;
    rustix::stdio::dup2_stderr(&inside).context(action)
}

/// The size of the terminal of this process, if it has one.
pub(crate) fn own_size() -> Option<Winsize> {
    rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok()
}

/// Moves bytes between the streams of this process and a terminal.
#[derive(Debug)]
pub(crate) struct Relay {
    outside: OwnedFd,
    /// Input that the terminal had no room for yet.
    pending: Vec<u8>,
    input_ended: bool,
    output_ended: bool,
    /// How our own terminal was before.
    before: Option<Termios>,
}

impl Relay {
    pub(crate) fn new(outside: OwnedFd) -> Result<Self, Error> {
        let flags = rustix::fs::fcntl_getfl(&outside)?;
        rustix::fs::fcntl_setfl(&outside, flags | OFlags::NONBLOCK)?;
        // What keys mean is for the terminal of the container to say.
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw);
        }
        Ok(Self { outside, pending: Vec::new(), input_ended: false, output_ended: false, before })
    }

    /// Takes over the size of our own terminal.
    pub(crate) fn resize(&self) {
        if let Some(size) = own_size() {
            let _ = rustix::termios::tcsetwinsize(&self.outside, size);
        }
    }

    /// Waits until there is something to move or `other` is readable, and moves it.
    pub(crate) fn step(&mut self, other: BorrowedFd<'_>) -> Result<(), Error> {
        let (outside_readable, input_readable) = {
            let stdin = rustix::stdio::stdin();
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, !self.output_ended);
            wanted.set(PollFlags::OUT, !self.pending.is_empty());
            let mut fds = vec![PollFd::from_borrowed_fd(other, PollFlags::IN)];
            // A side that has ended would be ready all the time.
            let outside = (!wanted.is_empty()).then(|| {
                fds.push(PollFd::from_borrowed_fd(self.outside.as_fd(), wanted));
                fds.len() - 1
            });
            let input = (!self.input_ended && self.pending.is_empty()).then(|| {
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
                fds.len() - 1
            });
            match rustix::event::poll(&mut fds, None) {
                Err(Errno::INTR) => return Ok(()),
                polled => polled?,
            };
            let ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
            (ready(outside), ready(input))
        };
        if outside_readable {
            self.flush();
            self.output();
        }
        if input_readable {
            let mut buffer = vec![0; CHUNK];
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) => self.input_ended = true,
                Ok(length) => {
                    self.pending.extend(&buffer[..length]);
                    self.flush();
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input_ended = true,
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        match rustix::io::write(&self.outside, &self.pending) {
            Ok(written) => drop(self.pending.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.pending.clear(),
        }
    }

    /// Moves what is left when the process has ended. Others may have the terminal still, and write without end.
    pub(crate) fn drain(&mut self) {
        for _ in 0..LAST_READS {
            if !self.output() {
                break;
            }
        }
    }

    /// Moves some of the output, if there is any, and returns whether there was. Not more: keys and signals wait.
    fn output(&mut self) -> bool {
        let mut buffer = vec![0; CHUNK];
        if self.output_ended {
            return false;
        }
        match rustix::io::read(&self.outside, &mut buffer) {
            Ok(length @ 1..) => {
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    match rustix::io::write(rustix::stdio::stdout(), rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(Errno::INTR) => {}
                        // Nobody listens any more; the process goes on all the same.
                        Err(_) => rest = &[],
                    }
                }
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            // EIO: no process has it open any more.
            Ok(_) | Err(_) => {
                self.output_ended = true;
                false
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}
