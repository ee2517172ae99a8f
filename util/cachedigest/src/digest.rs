use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use buildkit_errdefs::{Classify, Kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A content digest in the form `algorithm:hex`, as in the OCI image specification
/// (descriptor.md, "Digests").
///
/// Digests that this project makes are SHA-256; others are carried as they came. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Arc<str>);

/// A text is not a digest.
#[derive(Debug, thiserror::Error)]
#[error("Invalid digest `{0}`")]
pub struct ParseDigestError(String);

impl Classify for ParseDigestError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Digest {
    /// The SHA-256 digest of some bytes.
    pub fn sha256(bytes: impl AsRef<[u8]>) -> Self {
        Self::from_sha256(Sha256::digest(bytes.as_ref()).into())
    }

    /// The digest that a finished SHA-256 state stands for.
    pub fn from_sha256(hash: [u8; 32]) -> Self {
        Self::from_hash("sha256", &hash)
    }

    /// A digest under another algorithm's name, such as the `random:` digests that never match.
    pub fn from_hash(algorithm: &str, hash: &[u8]) -> Self {
        let mut text = String::with_capacity(algorithm.len() + 1 + hash.len() * 2);
        text.push_str(algorithm);
        text.push(':');
        text.push_str(&hex::encode(hash));
        Self(text.into())
    }

    /// Parses and checks a digest: known algorithms must have their length in lower-case hex, others
    /// `[a-z0-9]+([+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+`.
    ///
    /// # Errors
    /// When the text has not that form.
    pub fn parse(text: &str) -> Result<Self, ParseDigestError> {
        let error = || ParseDigestError(text.chars().take(128).collect());
        let (algorithm, encoded) = text.split_once(':').ok_or_else(error)?;
        let hex_len = match algorithm {
            "sha256" => Some(64),
            "sha384" => Some(96),
            "sha512" => Some(128),
            _ => None,
        };
        let fits = match hex_len {
            Some(len) => {
                encoded.len() == len && encoded.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            }
            None => {
                !encoded.is_empty()
                    && encoded.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
                    && algorithm.split(['+', '.', '_', '-']).all(|part| {
                        !part.is_empty() && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z'))
                    })
            }
        };
        if fits { Ok(Self(text.into())) } else { Err(error()) }
    }

    /// The whole text, `algorithm:encoded`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the colon.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// The part after the colon; safe as a file name.
    pub fn encoded(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, encoded)| encoded)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Computes a SHA-256 [`Digest`] of bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Digester(Sha256);

impl Digester {
    /// A digester that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes.as_ref());
    }

    /// The digest of all bytes seen.
    pub fn finish(self) -> Digest {
        Digest::from_sha256(self.0.finalize().into())
    }
}

impl std::io::Write for Digester {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digest() {
        let expect = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256(b"").as_str(), expect);
        assert_eq!(Digester::new().finish().as_str(), expect);
        assert_eq!(Digest::parse(expect).expect("valid").encoded().len(), 64);
    }

    #[test]
    fn bad_digests_are_refused() {
        for text in ["", "sha256", "sha256:", "sha256:abc", ":a", "sha256:G", "a..b:c", "x:a/b", "x:.."] {
            assert!(Digest::parse(text).is_err(), "{text}");
        }
        assert!(Digest::parse("random:0a").is_ok());
    }
}
