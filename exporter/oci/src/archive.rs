//! An image layout as a tar archive, with the bytes of containerd's `core/images/archive`: entries sorted
//! by name, without owners and times.

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_exporter_containerimage::Committed;
use buildkit_session_filesync::{Error as SyncError, FileWriter};
use buildkit_util_archive::{Error as TarError, Header, Time, encode_header, kind};
use buildkit_util_cachedigest::{Digest, Digester};
use buildkit_util_contentutil::{Error as BlobError, Provider};
use buildkit_util_ocispec::{Descriptor, Layout, to_json};
use buildkit_util_reference::Reference;
use bytes::Bytes;
use futures::StreamExt as _;

use crate::layout::{blob_path, docker_manifest, index};

const BLOCK: u64 = 512;
static ZEROS: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// Why an archive was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// A blob cannot be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// An entry cannot be expressed.
    #[error(transparent)]
    Entry(#[from] TarError),
    /// What was read is not the blob.
    #[error("unexpected digest {found} of blob {expected}")]
    Digest {
        /// What it is.
        found: Digest,
        /// What it should be.
        expected: Digest,
    },
    /// What was read has not the size of the blob.
    #[error("blob {0} has not the size that it should have")]
    Size(Digest),
    /// The client does not take it.
    #[error(transparent)]
    Client(#[from] SyncError),
}

impl Classify for ArchiveError {
    fn kind(&self) -> Kind {
        match self {
            Self::Blob(error) => error.kind(),
            Self::Entry(error) => error.kind(),
            Self::Digest { .. } | Self::Size(_) => Kind::DataLoss,
            Self::Client(error) => error.kind(),
        }
    }
}

/// Where an archive is written to.
#[async_trait]
pub(crate) trait Sink: Send {
    async fn put(&mut self, data: Bytes) -> Result<(), SyncError>;
}

#[async_trait]
impl Sink for FileWriter {
    async fn put(&mut self, data: Bytes) -> Result<(), SyncError> {
        self.write_bytes(data).await
    }
}

enum Content {
    Directory,
    Bytes(Bytes),
    Blob(Box<Descriptor>),
}

struct Entry {
    path: String,
    /// Permissions.
    mode: u32,
    content: Content,
}

/// A layout to be written.
pub(crate) struct Archive {
    entries: Vec<Entry>,
}

impl Archive {
    /// The layout of an image with names. `for_docker` adds what `docker load` reads, if it is one image.
    pub(crate) fn new(image: &Committed, names: &[Reference], for_docker: bool) -> Self {
        let directory =
            |path: &str| Entry { path: path.to_owned(), mode: 0o755, content: Content::Directory };
        let file = |path: &str, mode, bytes: Vec<u8>| Entry {
            path: path.to_owned(),
            mode,
            content: Content::Bytes(bytes.into()),
        };
        let mut entries = vec![
            directory("blobs/"),
            file("oci-layout", 0o444, to_json(&Layout::default())),
            file("index.json", 0o644, index(&image.descriptor, names)),
        ];
        if let ([only], None, true) = (image.images.as_slice(), &image.index, for_docker) {
            entries.push(file("manifest.json", 0o644, docker_manifest(only, names)));
        }
        for blob in image.all() {
            entries.push(directory(&format!("blobs/{}/", blob.digest.algorithm())));
            let content = Content::Blob(Box::new(blob.clone()));
            entries.push(Entry { path: blob_path(blob), mode: 0o444, content });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        Self { entries }
    }

    /// Writes it; blobs come from `provider` and are verified on their way.
    pub(crate) async fn write(
        &self,
        provider: &dyn Provider,
        sink: &mut dyn Sink,
    ) -> Result<(), ArchiveError> {
        for entry in &self.entries {
            let size = match &entry.content {
                Content::Directory => 0,
                Content::Bytes(bytes) => bytes.len() as u64,
                Content::Blob(blob) => blob.size,
            };
            let is_directory = matches!(entry.content, Content::Directory);
            let header = Header {
                kind: if is_directory { kind::DIRECTORY } else { kind::REGULAR },
                name: entry.path.clone().into_bytes(),
                mode: entry.mode.into(),
                size: i64::try_from(size).unwrap_or(i64::MAX),
                mtime: Some(Time::default()),
                ..Header::default()
            };
            sink.put(encode_header(&header)?.into()).await?;
            match &entry.content {
                Content::Directory => {}
                Content::Bytes(bytes) => sink.put(bytes.clone()).await?,
                Content::Blob(blob) => copy(provider, blob, sink).await?,
            }
            let padding = (BLOCK - size % BLOCK) % BLOCK;
            sink.put(Bytes::from_static(&ZEROS[..padding as usize])).await?;
        }
        sink.put(Bytes::from_static(&ZEROS)).await?;
        Ok(())
    }
}

async fn copy(provider: &dyn Provider, blob: &Descriptor, sink: &mut dyn Sink) -> Result<(), ArchiveError> {
    let size_error = || ArchiveError::Size(blob.digest.clone());
    let mut stream = provider.read(blob, 0).await?;
    let (mut digester, mut left) = (Digester::new(), blob.size);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        left = left.checked_sub(chunk.len() as u64).ok_or_else(size_error)?;
        digester.update(&chunk);
        sink.put(chunk).await?;
    }
    if left > 0 {
        return Err(size_error());
    }
    let found = digester.finish();
    if found != blob.digest {
        return Err(ArchiveError::Digest { found, expected: blob.digest.clone() });
    }
    Ok(())
}
