use std::io::{self, Read, Seek, Write};
use std::time::SystemTime;

use buildkit_errdefs::{BoxError, Classify, Kind};
use buildkit_util_cachedigest::Digest;

/// What is known of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// When it was stored.
    pub stored_at: SystemTime,
}

/// What a blob must be to be stored. SHA-256 only, if there is a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its digest.
    pub digest: Option<Digest>,
    /// Its bytes.
    pub size: Option<u64>,
}

/// Why a content store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such blob.
    #[error("Blob `{0}` does not exist")]
    NotFound(Digest),
    /// A blob has not the digest or the size that it should have.
    #[error("Blob `{blob}` has {what} `{found}`, not `{expected}`")]
    Mismatch {
        /// What it was to be, as far as that is known.
        blob: String,
        /// `digest` or `size`.
        what: &'static str,
        /// What was expected.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A stored blob is damaged. It has been removed.
    #[error("Blob `{0}` is damaged")]
    Damaged(Digest),
    /// Digests of this algorithm cannot be stored.
    #[error("Blob `{0}` has a digest that is not SHA-256")]
    Algorithm(Digest),
    /// Who was to give it, a registry or a client, did not.
    #[error("{source}")]
    Provider {
        /// Whose fault it is.
        kind: Kind,
        /// What was attempted, on what, and why it failed.
        source: BoxError,
    },
    /// The file system refused.
    #[error("Failed to {action}")]
    Io {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The error of who was to give a blob.
    pub fn provider<E: Classify + Send + Sync + 'static>(error: E) -> Self {
        Self::Provider { kind: error.kind(), source: Box::new(error) }
    }

    /// The error of a file or a stream that could not be read.
    pub fn from_io(error: io::Error) -> Self {
        Self::Io { action: format!("read a blob: {error}"), source: error }
    }

    pub(crate) fn mismatch(
        blob: &Digest,
        what: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Mismatch {
            blob: blob.to_string(),
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Mismatch { .. } => Kind::FailedPrecondition,
            Self::Damaged(_) => Kind::DataLoss,
            Self::Algorithm(_) => Kind::InvalidArgument,
            Self::Provider { kind, .. } => *kind,
            Self::Io { source, .. } => Kind::of_io(source),
        }
    }
}

/// A blob that is read.
pub trait ReadBlob: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadBlob for T {}

/// A blob that is written. Dropping it forgets what was written.
pub trait Ingester: Write + Send {
    /// Bytes written so far.
    fn len(&self) -> u64;

    /// Whether nothing was written so far.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the blob and makes it visible under its digest. Storing what is there is no error.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is not what was expected, or when the file system refuses.
    fn commit(self: Box<Self>) -> Result<BlobInfo, Error>;
}

/// Blobs by digest. A blob is there wholly, with its digest, or not at all.
///
/// Calls block. Blobs are cached data: they may vanish with a power loss, and one found damaged is
/// removed.
pub trait ContentStore: Send + Sync + 'static {
    /// What is known of a blob.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the file system refuses.
    fn info(&self, digest: &Digest) -> Result<BlobInfo, Error>;

    /// Opens a blob; `size`, if known, is checked.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`] if it has another size or content, or when the file
    /// system refuses.
    fn open(&self, digest: &Digest, size: Option<u64>) -> Result<Box<dyn ReadBlob>, Error>;

    /// Starts to store a blob. Writing more than was expected fails at once.
    ///
    /// # Errors
    /// [`Error::Algorithm`], or when the file system refuses.
    fn ingest(&self, expected: Expected) -> Result<Box<dyn Ingester>, Error>;

    /// Removes a blob. Who has it open goes on reading.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the file system refuses.
    fn delete(&self, digest: &Digest) -> Result<(), Error>;

    /// All blobs, in no order.
    ///
    /// # Errors
    /// When the file system refuses.
    fn list(&self) -> Result<Vec<BlobInfo>, Error>;
}

/// A store that others may look at and not change.
pub struct ReadOnly(pub std::sync::Arc<dyn ContentStore>);

impl ReadOnly {
    fn refused<T>() -> Result<T, Error> {
        let reason = io::Error::new(io::ErrorKind::PermissionDenied, "the content store is read-only");
        Err(Error::io("change the content store")(reason))
    }
}

impl ContentStore for ReadOnly {
    fn info(&self, digest: &Digest) -> Result<BlobInfo, Error> {
        self.0.info(digest)
    }

    fn open(&self, digest: &Digest, size: Option<u64>) -> Result<Box<dyn ReadBlob>, Error> {
        self.0.open(digest, size)
    }

    fn ingest(&self, _expected: Expected) -> Result<Box<dyn Ingester>, Error> {
        Self::refused()
    }

    fn delete(&self, _digest: &Digest) -> Result<(), Error> {
        Self::refused()
    }

    fn list(&self) -> Result<Vec<BlobInfo>, Error> {
        self.0.list()
    }
}

/// Counts and hashes what is written, and checks it against what is expected.
pub(crate) struct Check {
    expected: Expected,
    digester: buildkit_util_cachedigest::BackgroundDigester,
    len: u64,
}

impl Check {
    pub(crate) fn new(expected: Expected) -> Result<Self, Error> {
        if let Some(digest) = &expected.digest {
            require_sha256(digest)?;
        }
        Ok(Self { expected, digester: buildkit_util_cachedigest::BackgroundDigester::new(), len: 0 })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether `count` more bytes are too many.
    pub(crate) fn admit(&self, count: usize) -> io::Result<()> {
        match self.expected.size {
            Some(size) if self.len + count as u64 > size => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("blob is larger than the {size} bytes that it should have"),
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.digester.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// The digest and size, if they are as expected.
    pub(crate) fn finish(self) -> Result<(Digest, u64), Error> {
        let (found, len) = (self.digester.finish(), self.len);
        let blob = || self.expected.digest.as_ref().map_or_else(|| found.to_string(), Digest::to_string);
        if let Some(size) = self.expected.size.filter(|size| *size != len) {
            return Err(Error::Mismatch {
                blob: blob(),
                what: "size",
                expected: size.to_string(),
                found: len.to_string(),
            });
        }
        if let Some(digest) = self.expected.digest.as_ref().filter(|digest| **digest != found) {
            return Err(Error::Mismatch {
                blob: blob(),
                what: "digest",
                expected: digest.to_string(),
                found: found.to_string(),
            });
        }
        Ok((found, len))
    }
}

pub(crate) fn require_sha256(digest: &Digest) -> Result<(), Error> {
    if digest.algorithm() == "sha256" { Ok(()) } else { Err(Error::Algorithm(digest.clone())) }
}
