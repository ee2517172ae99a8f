//! Lists the keys of the SSH agent that a step may use.
//!
//! Needs nothing but the socket in `SSH_AUTH_SOCK`, so that a step can run it on an empty root file
//! system when it is linked statically:
//!
//! ```text
//! RUSTFLAGS="-C target-feature=+crt-static" cargo build --release -p example-ssh-list --target x86_64-unknown-linux-gnu
//! ```
//!
//! The protocol is draft-miller-ssh-agent, section 3.5.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
/// Bytes of an answer at most; OpenSSH has the same limit.
const MAX_ANSWER: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::var_os("SSH_AUTH_SOCK").ok_or("SSH_AUTH_SOCK is not set")?;
    let mut agent = UnixStream::connect(&path)?;
    agent.write_all(&[0, 0, 0, 1, REQUEST_IDENTITIES])?;
    let mut length = [0; 4];
    agent.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if length > MAX_ANSWER {
        return Err("The agent's answer is too long".into());
    }
    let mut answer = vec![0; length];
    agent.read_exact(&mut answer)?;
    let mut out = std::io::stdout().lock();
    for (kind, comment) in keys(&answer).ok_or("The agent's answer is not a list of keys")? {
        writeln!(out, "{kind} {comment}")?;
    }
    Ok(())
}

/// Type and comment of each key in an answer.
fn keys(mut answer: &[u8]) -> Option<Vec<(String, String)>> {
    let kind = take(&mut answer, 1)?;
    if kind != [IDENTITIES_ANSWER] {
        return None;
    }
    let count = number(&mut answer)?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let mut blob = string(&mut answer)?;
        let comment = string(&mut answer)?;
        let kind = string(&mut blob)?;
        keys.push((
            String::from_utf8_lossy(kind).into_owned(),
            String::from_utf8_lossy(comment).into_owned(),
        ));
    }
    Some(keys)
}

fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(bytes)?;
    take(bytes, usize::try_from(length).ok()?)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes, 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::keys;

    #[test]
    fn answers() {
        let one = b"\x0c\0\0\0\x01\0\0\0\x0b\0\0\0\x03rsa....\0\0\0\x02me";
        assert_eq!(keys(one), Some(vec![("rsa".to_owned(), "me".to_owned())]));
        assert_eq!(keys(b"\x0c\0\0\0\0"), Some(Vec::new()));
        // A refusal, and lists that are cut short.
        for bad in [&b"\x05"[..], b"", &one[..one.len() - 1], b"\x0c\0\0\0\x01\xff\xff\xff\xff"] {
            assert_eq!(keys(bad), None, "{bad:?}");
        }
    }
}
