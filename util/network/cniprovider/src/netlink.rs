//! The few questions to the kernel about interfaces, in the words of rtnetlink.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;

const IFNAME: u16 = 3;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;

/// State of an interface: up.
const UP: u32 = 1;

/// The first interface of a namespace is `lo`.
const LOOPBACK: i32 = 1;

/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Larger than any message of the kernel.
const BUFFER: usize = 64 << 10;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: i32,
    pub(crate) name: String,
    /// Such as `bridge`; empty for hardware.
    pub(crate) kind: String,
    /// Index of the bridge that it is a port of, if it is.
    pub(crate) master: Option<u32>,
}

/// Brings up `lo` in the network namespace of this thread.
pub(crate) fn set_loopback_up() -> io::Result<()> {
    talk(NEWLINK, ACK, LOOPBACK, UP).map(drop)
}

/// All interfaces in the network namespace of this thread.
pub(crate) fn links() -> io::Result<Vec<Link>> {
    let answers = talk(GETLINK, DUMP, 0, 0)?;
    Ok(answers.iter().filter_map(|answer| link(answer)).collect())
}

/// Removes an interface.
pub(crate) fn delete_link(index: i32) -> io::Result<()> {
    talk(DELLINK, ACK, index, 0).map(drop)
}

/// Sends one request about an interface and reads the answers, each without its header.
fn talk(kind: u16, flags: u16, index: i32, state: u32) -> io::Result<Vec<Vec<u8>>> {
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let message = request(kind, flags, index, state);
    if send(&socket, &message, SendFlags::empty())? != message.len() {
        return Err(io::Error::from(io::ErrorKind::WriteZero));
    }
    let mut answers = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let (count, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        while let Some((kind, payload, after)) = message_of(rest) {
            match kind {
                DONE => return Ok(answers),
                ERROR => {
                    let code =
                        payload.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return if code == 0 { Ok(answers) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => answers.push(payload.to_vec()),
            }
            rest = after;
        }
    }
}

/// A request with the description of an interface: its index, and which states to set.
fn request(kind: u16, flags: u16, index: i32, state: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | REQUEST).to_ne_bytes());
    // Number of the request, and port of this socket, which the kernel knows.
    message.extend([0; 8]);
    // Address family and hardware type: any.
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend(state.to_ne_bytes());
    // Which states are to change.
    message.extend(state.to_ne_bytes());
    message
}

/// The first message of some bytes: kind, content, and what follows it.
fn message_of(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(16..length)?;
    Some((kind, payload, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The first attribute of some bytes, as [`message_of`].
fn attribute_of(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    // The two upper bits say how the content is written.
    let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
    let payload = bytes.get(4..length)?;
    Some((kind, payload, bytes.get(aligned(length)..).unwrap_or_default()))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn link(message: &[u8]) -> Option<Link> {
    let mut link = Link { index: i32::from_ne_bytes(message.get(4..8)?.try_into().ok()?), ..Link::default() };
    let mut rest = message.get(16..)?;
    while let Some((kind, payload, after)) = attribute_of(rest) {
        match kind {
            IFNAME => link.name = text(payload),
            MASTER => link.master = payload.try_into().ok().map(u32::from_ne_bytes),
            LINKINFO => {
                let mut inner = payload;
                while let Some((kind, payload, after)) = attribute_of(inner) {
                    if kind == INFO_KIND {
                        link.kind = text(payload);
                    }
                    inner = after;
                }
            }
            _ => {}
        }
        rest = after;
    }
    Some(link)
}

/// A text with a zero at its end.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_listed_and_the_kernel_says_no() {
        let links = links().expect("interfaces");
        let loopback = links.iter().find(|link| link.name == "lo").expect("lo");
        assert_eq!((loopback.index, loopback.master), (LOOPBACK, None));
        let error = delete_link(i32::MAX).expect_err("there is no such interface");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NODEV.raw_os_error()), "{error}");
    }

    #[test]
    fn messages_that_are_cut_off_are_no_links() {
        let mut whole = request(NEWLINK, 0, 7, 0).split_off(16);
        for (kind, content) in [(IFNAME, &b"br7\0"[..]), (MASTER, &9_u32.to_ne_bytes())] {
            whole.extend(((content.len() + 4) as u16).to_ne_bytes());
            whole.extend(kind.to_ne_bytes());
            whole.extend(content);
        }
        let read = link(&whole).expect("a link");
        assert_eq!((read.index, &*read.name, read.master), (7, "br7", Some(9)));
        for length in 0..whole.len() {
            let _ = link(&whole[..length]);
        }
        // A length of nothing must not be looked at for ever.
        assert_eq!(message_of(&[0; 32]), None);
        assert_eq!(attribute_of(&[0; 32]), None);
    }
}
