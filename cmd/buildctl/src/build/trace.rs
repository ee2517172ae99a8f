use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use buildkit_util_progress::SolveStatus;
use buildkit_util_progress_progressui::to_json;

/// A file with all progress of a build, a line of JSON for each message.
pub(crate) struct TraceFile {
    path: PathBuf,
    file: BufWriter<fs_err::File>,
}

impl TraceFile {
    /// Opens a file to append to. Only its owner may read it: logs can hold anything.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        use fs_err::os::unix::fs::OpenOptionsExt as _;
        let file = fs_err::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// A new file for one build among the user's temporary files.
    pub(crate) fn temporary(reference: &str) -> Result<Self> {
        Self::open(&std::env::temp_dir().join(format!("buildctl-{reference}.trace.json")))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&mut self, status: &SolveStatus) -> Result<()> {
        let mut line = to_json(status);
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.flush())
            .with_context(|| format!("failed to write {}", self.path.display()))
    }
}
