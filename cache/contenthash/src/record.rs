use buildkit_util_cachedigest::Digest;
use prost::Message;

use crate::{Error, Result};

/// What a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// Content of a directory.
    Dir,
    /// Attributes of a directory.
    Header,
    Symlink,
}

/// A SHA-256 hash.
pub(crate) type Hash = [u8; 32];

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) hash: Option<Hash>,
    /// Target of a symbolic link.
    pub(crate) target: Box<[u8]>,
}

impl Record {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, hash: None, target: Box::default() }
    }
}

/// The text of a hash, which is what directories are hashed from.
pub(crate) fn text(hash: &Hash) -> String {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    text.push_str(&hex::encode(hash));
    text
}

pub(crate) fn to_hash(digest: &Digest) -> Option<Hash> {
    (digest.algorithm() == "sha256").then(|| hex::decode(digest.encoded()).ok()?.try_into().ok())?
}

/// The stored form: each key as the number of bytes it shares with the one before, and the rest.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stored {
    #[prost(message, repeated, tag = "1")]
    records: Vec<StoredRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRecord {
    #[prost(uint32, tag = "1")]
    shared: u32,
    #[prost(bytes = "vec", tag = "2")]
    rest: Vec<u8>,
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(bytes = "vec", tag = "4")]
    hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    target: Vec<u8>,
}

impl Stored {
    pub(crate) fn new<'a>(records: impl Iterator<Item = (&'a Vec<u8>, &'a Record)>) -> Self {
        let mut last: &[u8] = &[];
        let records = records
            .map(|(key, record)| {
                let shared = key.iter().zip(last).take_while(|(a, b)| a == b).count();
                last = key;
                StoredRecord {
                    // Paths are far shorter.
                    shared: shared as u32,
                    rest: key[shared..].to_vec(),
                    kind: match record.kind {
                        Kind::File => 0,
                        Kind::Dir => 1,
                        Kind::Header => 2,
                        Kind::Symlink => 3,
                    },
                    hash: record.hash.map_or_else(Vec::new, |hash| hash.to_vec()),
                    target: record.target.to_vec(),
                }
            })
            .collect();
        Self { records }
    }

    pub(crate) fn records(self) -> Result<Vec<(Vec<u8>, Record)>> {
        let mut last: Vec<u8> = Vec::new();
        self.records
            .into_iter()
            .map(|stored| {
                let shared = last.get(..stored.shared as usize).ok_or(Error::Damaged)?;
                let key = [shared, &stored.rest].concat();
                last.clone_from(&key);
                let kind = match stored.kind {
                    0 => Kind::File,
                    1 => Kind::Dir,
                    2 => Kind::Header,
                    3 => Kind::Symlink,
                    _ => return Err(Error::Damaged),
                };
                let hash = match &stored.hash[..] {
                    [] => None,
                    hash => Some(hash.try_into().map_err(|_| Error::Damaged)?),
                };
                Ok((key, Record { kind, hash, target: stored.target.into() }))
            })
            .collect()
    }
}
