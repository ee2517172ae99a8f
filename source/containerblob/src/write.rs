use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use buildkit_cache::{LocalMount, MutableRef};
use buildkit_errdefs::{Classify, Kind};
use buildkit_util_appcontext::{TaskError, spawn_blocking};
use buildkit_util_cachedigest::Digester;
use buildkit_util_contentutil::{BlobStream, Error as BlobError};
use buildkit_util_progress::Part;
use buildkit_util_system::{CreateFile, Root};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use crate::identifier::Options;

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 20;

/// A record that is written. Unmounted before it is released; alive as long as something may be written, even if nobody
/// waits for it any more.
pub(crate) struct Destination {
    pub(crate) mount: LocalMount,
    pub(crate) record: MutableRef,
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Root(#[from] buildkit_util_system::Error),
    #[error("Failed to write the file: {0}")]
    Io(#[from] io::Error),
    #[error("Blob `{blob}` has {what} `{found}`, not `{expected}`")]
    Mismatch { blob: String, what: &'static str, expected: String, found: String },
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl Classify for WriteError {
    fn kind(&self) -> Kind {
        match self {
            Self::Blob(error) => error.kind(),
            Self::Root(error) => error.kind(),
            Self::Io(error) => Kind::of_io(error),
            Self::Mismatch { .. } => Kind::FailedPrecondition,
            Self::Task(_) => Kind::Internal,
        }
    }
}

/// Writes a blob into the file that the options describe, and tells how many bytes it has.
pub(crate) async fn write(
    destination: &Arc<Destination>,
    options: &Options,
    size: u64,
    mut stream: BlobStream,
    part: &Part,
) -> Result<u64, WriteError> {
    let (keep, name, mode) = (destination.clone(), options.name().to_owned(), options.mode());
    let mut file = spawn_blocking(move || -> Result<_, WriteError> {
        let root = Root::open(keep.mount.path())?;
        Ok(Output {
            file: root.create_file(&name, mode, CreateFile::New)?,
            digester: Digester::new(),
            len: 0,
        })
    })
    .await??;
    let total = i64::try_from(size).unwrap_or(0);
    let mut buffer = BytesMut::new();
    while let Some(bytes) = stream.next().await {
        buffer.extend_from_slice(&bytes?);
        let arrived = file.len + buffer.len() as u64;
        if arrived > size {
            return Err(mismatch(options, "size", size.to_string(), format!("{arrived} or more")));
        }
        if buffer.len() >= CHUNK {
            file = file.write(destination, buffer.split().freeze()).await?;
            part.update(i64::try_from(file.len).unwrap_or(i64::MAX), total);
        }
    }
    let Output { file, digester, len } = file.write(destination, buffer.freeze()).await?;
    if len != size {
        return Err(mismatch(options, "size", size.to_string(), len.to_string()));
    }
    let found = digester.finish();
    if found != options.digest {
        return Err(mismatch(options, "digest", options.digest.to_string(), found.to_string()));
    }
    let (keep, uid, gid) = (destination.clone(), options.uid, options.gid);
    spawn_blocking(move || -> Result<(), WriteError> {
        let _keep = keep;
        if (uid, gid) != (0, 0) {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        file.set_times(std::fs::FileTimes::new().set_accessed(epoch).set_modified(epoch))?;
        Ok(())
    })
    .await??;
    Ok(len)
}

struct Output {
    file: File,
    digester: Digester,
    len: u64,
}

impl Output {
    async fn write(mut self, destination: &Arc<Destination>, bytes: Bytes) -> Result<Self, WriteError> {
        let keep = destination.clone();
        let written = spawn_blocking(move || -> io::Result<Self> {
            let _keep = keep;
            self.file.write_all(&bytes)?;
            self.digester.update(&bytes);
            self.len += bytes.len() as u64;
            Ok(self)
        });
        Ok(written.await??)
    }
}

fn mismatch(options: &Options, what: &'static str, expected: String, found: String) -> WriteError {
    WriteError::Mismatch { blob: options.digest.to_string(), what, expected, found }
}
