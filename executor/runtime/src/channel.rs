//! What the process that becomes the container's tells the one that watches it.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::{Context, Error};

/// Longest message, in bytes. Longer errors are cut.
const MAX: usize = 8 << 10;

/// A message.
#[derive(Debug)]
pub(crate) enum Message {
    /// A terminal was made; this is our side of it.
    Terminal(OwnedFd),
    /// All is ready but for the program.
    Executing,
    /// It failed.
    Failed(String),
}

/// One end. Closed on exec.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Channel {
    /// Two ends.
    pub(crate) fn pair() -> Result<(Self, Self), Error> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .context("make a channel")?;
        Ok((Self(one), Self(other)))
    }

    pub(crate) fn send(&self, message: &Message) -> Result<(), Error> {
        let (kind, text, fd) = match message {
            Message::Terminal(fd) => (b'T', "", Some(fd.as_fd())),
            Message::Executing => (b'X', "", None),
            Message::Failed(text) => (b'E', text.as_str(), None),
        };
        let mut bytes = vec![kind];
        bytes.extend(text.bytes().take(MAX - 1));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        loop {
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).context("tell the other process"),
            }
        }
    }

    /// The next message, or nothing at the end.
    pub(crate) fn receive(&self) -> Result<Option<Message>, Error> {
        let mut bytes = vec![0; MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.0, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                // An end that was closed with messages unread.
                Err(Errno::CONNRESET) => return Ok(None),
                received => break received.context("hear of the other process")?.bytes,
            }
        };
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (bytes[..length].split_first(), fd) {
            (None, _) => Ok(None),
            (Some((b'T', _)), Some(fd)) => Ok(Some(Message::Terminal(fd))),
            (Some((b'X', _)), _) => Ok(Some(Message::Executing)),
            (Some((b'E', rest)), _) => Ok(Some(Message::Failed(text(rest)))),
            _ => Err(Error::new("the other process says what nobody understands")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive() {
        let (one, other) = Channel::pair().expect("channel");
        let file = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        one.send(&Message::Terminal(file.expect("file"))).expect("sent");
        one.send(&Message::Failed("x".repeat(2 * MAX))).expect("sent");
        one.send(&Message::Executing).expect("sent");
        drop(one);
        let Ok(Some(Message::Terminal(fd))) = other.receive() else { panic!("no terminal") };
        assert!(crate::rootfs::is_null(fd.as_fd()).expect("stat"));
        assert!(matches!(other.receive(), Ok(Some(Message::Failed(text))) if text.len() == MAX - 1));
        assert!(matches!(other.receive(), Ok(Some(Message::Executing))));
        assert!(matches!(other.receive(), Ok(None)));
    }
}
