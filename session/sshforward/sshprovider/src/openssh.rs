//! Private keys in OpenSSH's own form (`PROTOCOL.key` in OpenSSH's sources).
//!
//! Read here and not by the `ssh-key` crate, which refuses scalars of curves that are shorter than the curve:
//! one key of P-521 in four.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::KeyError;
use crate::wire::{take_number, take_string};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// A file with one key.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) numbers: Numbers,
    pub(crate) comment: String,
}

/// What a key is made of. Numbers are without the zero byte that keeps them positive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    Ed25519 { seed: Vec<u8>, public: Vec<u8> },
    Ecdsa { curve: String, public: Vec<u8>, scalar: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8>, d: Vec<u8>, inverse: Vec<u8>, p: Vec<u8>, q: Vec<u8> },
}

/// The key of a file's text.
///
/// # Errors
/// When the text is no such file, or its key is encrypted or of a type that is not supported.
pub(crate) fn parse(text: &[u8]) -> Result<File, KeyError> {
    let bytes = body(text).ok_or(KeyError::Invalid)?;
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(KeyError::Invalid)?;
    let mut next = || take_string(&mut rest).ok_or(KeyError::Invalid);
    let (cipher, _kdf, _kdf_options) = (next()?, next()?, next()?);
    if take_number(&mut rest) != Some(1) {
        return Err(KeyError::Invalid);
    }
    let _public = take_string(&mut rest).ok_or(KeyError::Invalid)?;
    let secret = take_string(&mut rest).ok_or(KeyError::Invalid)?;
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    key(secret)
}

/// The bytes between the marks.
fn body(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, text) = text.split_once(BEGIN)?;
    let (text, _) = text.split_once(END)?;
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()
}

/// The part with the secret.
fn key(mut bytes: &[u8]) -> Result<File, KeyError> {
    let check = (take_number(&mut bytes), take_number(&mut bytes));
    if check.0.is_none() || check.0 != check.1 {
        return Err(KeyError::Invalid);
    }
    let mut next = || take_string(&mut bytes).map(<[u8]>::to_vec).ok_or(KeyError::Invalid);
    let kind = next()?;
    let numbers = if kind == b"ssh-ed25519" {
        let (public, mut seed) = (next()?, next()?);
        // The public key is there once more.
        if seed.len() != 64 || seed.split_off(32) != public {
            return Err(KeyError::Invalid);
        }
        Numbers::Ed25519 { seed, public }
    } else if kind.starts_with(b"ecdsa-sha2-") {
        let (curve, public, scalar) = (next()?, next()?, next()?);
        let curve = String::from_utf8(curve).map_err(|_| KeyError::Invalid)?;
        Numbers::Ecdsa { curve, public, scalar: positive(scalar)? }
    } else if kind == b"ssh-rsa" {
        let mut number = || positive(next()?);
        let (n, e, d, inverse) = (number()?, number()?, number()?, number()?);
        Numbers::Rsa { n, e, d, inverse, p: number()?, q: number()? }
    } else {
        return Err(KeyError::Unsupported);
    };
    let comment = String::from_utf8_lossy(&next()?).into_owned();
    Ok(File { numbers, comment })
}

/// A number above zero, without its sign (RFC 4251, section 5).
fn positive(mut bytes: Vec<u8>) -> Result<Vec<u8>, KeyError> {
    match bytes.first() {
        Some(0) => drop(bytes.remove(0)),
        Some(1..=0x7f) => {}
        _ => return Err(KeyError::Invalid),
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{number, positive as put_positive, string};

    fn file(cipher: &[u8], checks: (usize, usize), fields: &[&[u8]]) -> Vec<u8> {
        let mut secret = Vec::new();
        number(&mut secret, checks.0);
        number(&mut secret, checks.1);
        for field in fields {
            string(&mut secret, field);
        }
        let mut bytes = MAGIC.to_vec();
        string(&mut bytes, cipher);
        string(&mut bytes, b"none");
        string(&mut bytes, b"");
        number(&mut bytes, 1);
        string(&mut bytes, b"public");
        string(&mut bytes, &secret);
        format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(bytes)).into_bytes()
    }

    #[test]
    fn scalars_shorter_than_their_curve() {
        for scalar in [&[1u8; 64][..], &[0x80; 65], &[0x7f; 66]] {
            let mut number = Vec::new();
            put_positive(&mut number, scalar);
            let fields: [&[u8]; 5] =
                [b"ecdsa-sha2-nistp521", b"nistp521", b"point", &number[4..], b"me@machine"];
            let file = parse(&file(b"none", (7, 7), &fields)).expect("a key");
            let expect = Numbers::Ecdsa {
                curve: "nistp521".to_owned(),
                public: b"point".to_vec(),
                scalar: scalar.to_vec(),
            };
            assert_eq!((file.numbers, file.comment.as_str()), (expect, "me@machine"));
        }
    }

    #[test]
    fn what_is_wrong_with_files() {
        let good: &[&[u8]] = &[b"ssh-ed25519", &[2; 32], &[[1; 32], [2; 32]].concat(), b""];
        assert!(parse(&file(b"none", (1, 1), good)).is_ok());
        for (file, expect) in [
            (file(b"none", (1, 2), good), KeyError::Invalid),
            (file(b"aes256-ctr", (1, 1), good), KeyError::Encrypted),
            (file(b"none", (1, 1), &[b"ssh-dss", b""]), KeyError::Unsupported),
            (file(b"none", (1, 1), &[b"ssh-ed25519", &[3; 32], good[2], b""]), KeyError::Invalid),
            (file(b"none", (1, 1), &[b"ssh-ed25519", &[2; 32]]), KeyError::Invalid),
            (file(b"none", (1, 1), &[b"ssh-rsa", b"\xff"]), KeyError::Invalid),
        ] {
            assert_eq!(parse(&file).err(), Some(expect));
        }
    }
}
