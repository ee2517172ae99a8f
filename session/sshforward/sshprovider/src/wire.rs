//! The encodings of SSH (RFC 4251, section 5), and messages of agents (draft-miller-ssh-agent, 3).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Types of the requests for the list of keys and for a signature, and of their answers.
pub(crate) const REQUEST_IDENTITIES: u8 = 11;
pub(crate) const IDENTITIES_ANSWER: u8 = 12;
pub(crate) const SIGN_REQUEST: u8 = 13;
pub(crate) const SIGN_RESPONSE: u8 = 14;
/// The answer to a request that is refused.
pub(crate) const FAILURE: &[u8] = &[5];

/// Bytes of a message at most; OpenSSH has the same limit.
const MAX_MESSAGE: usize = 256 * 1024;

/// Reads one message: its type and its body.
pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length == 0 || length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Writes one message.
pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(4 + body.len());
    string(&mut message, body);
    stream.write_all(&message).await?;
    stream.flush().await
}

/// Appends a number.
pub(crate) fn number(out: &mut Vec<u8>, value: usize) {
    // Nothing here is longer than a message.
    out.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
}

/// Appends bytes with their length.
pub(crate) fn string(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len());
    out.extend_from_slice(value);
}

/// Appends a positive number of any size, given by its bytes from the highest on.
pub(crate) fn positive(out: &mut Vec<u8>, value: &[u8]) {
    let zeros = value.iter().take_while(|byte| **byte == 0).count();
    let value = &value[zeros..];
    // The highest bit is the sign.
    let pad = value.first().is_some_and(|first| first & 0x80 != 0);
    number(out, value.len() + usize::from(pad));
    if pad {
        out.push(0);
    }
    out.extend_from_slice(value);
}

/// Takes a number off the front.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*head))
}

/// Takes bytes with their length off the front.
pub(crate) fn take_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_standard() {
        // RFC 4251, section 5.
        for (value, expect) in [
            (&[0u8, 0][..], &[0u8, 0, 0, 0][..]),
            (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
            (
                &[0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
                &[0, 0, 0, 8, 0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
            ),
            (&[0, 0, 1], &[0, 0, 0, 1, 1]),
        ] {
            let mut out = Vec::new();
            positive(&mut out, value);
            assert_eq!(out, expect);
        }
    }

    #[test]
    fn strings_do_not_reach_beyond_the_end() {
        for mut bytes in [&[0, 0, 0][..], &[0, 0, 0, 1], &[0xff; 8]] {
            assert_eq!(take_string(&mut bytes), None);
        }
        let mut bytes = &[0, 0, 0, 1, 7, 9][..];
        assert_eq!((take_string(&mut bytes), bytes), (Some(&[7][..]), &[9][..]));
    }
}
