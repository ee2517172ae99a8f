use std::sync::Arc;

use async_trait::async_trait;
use buildkit_solver_pb::Definition;
use buildkit_util_fsutil_types::Stat;
use buildkit_util_grpcerrors::RemoteError;
use bytes::Bytes;

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// Where it begins; beyond the end of the file it is empty.
    pub offset: u64,
    /// How long it is at most; what is not there is left out.
    pub length: u64,
}

/// Which file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFile {
    /// Path in the tree; links are followed and do not leave it.
    pub path: String,
    /// Which part of it; `None` is all of it.
    pub range: Option<FileRange>,
}

impl ReadFile {
    /// All of a file.
    pub fn whole(path: impl Into<String>) -> Self {
        Self { path: path.into(), range: None }
    }
}

/// Which directory to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadDir {
    /// Path in the tree; links are followed and do not leave it.
    pub path: String,
    /// Pattern in the form of `.dockerignore` that names of entries match; empty is all.
    pub include_pattern: String,
}

/// A tree that is made when somebody looks into it, or when it is part of the build's result.
///
/// It belongs to the client that handed it out, and lives as long as the build. An empty tree is no ref: where
/// refs are expected, it is `None`.
///
/// Paths that are not there are errors of kind [`NotFound`](buildkit_errdefs::Kind::NotFound). When a step of the
/// tree fails, every call fails as that step does.
#[async_trait]
pub trait GatewayRef: Send + Sync + 'static {
    /// The name by which the client that handed it out knows it.
    fn id(&self) -> &str;

    /// The graph that it is the result of (`llb::State::from_definition` makes it a state to build upon); `None`
    /// for a tree that no graph names.
    fn definition(&self) -> Option<Arc<Definition>>;

    /// Makes the tree now. Calls share the work.
    async fn evaluate(&self) -> Result<(), RemoteError>;

    /// The content of a regular file.
    async fn read_file(&self, file: ReadFile) -> Result<Bytes, RemoteError>;

    /// The entries of a directory, by name in order of their bytes. Paths in the answer are names.
    async fn read_dir(&self, directory: ReadDir) -> Result<Vec<Stat>, RemoteError>;

    /// What a path is. Its last part, too, is followed if it is a link.
    async fn stat_file(&self, path: &str) -> Result<Stat, RemoteError>;
}
