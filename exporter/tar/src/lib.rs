//! Delivers results as one tar stream.
//!
//! The options are those of the local exporter. Several platforms are directories of one archive.
#![forbid(unsafe_code)]

mod archive;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_exporter::{Error, ExportContext, ExportResult, Exported, Exporter, ExporterInstance};
use buildkit_exporter_local::{TreeOptions, in_directories, open_trees};
use buildkit_session::LOOKUP_WAIT;
use buildkit_session_filesync::{Error as SyncError, copy_file_writer};
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_fsutil::FileSystem;

/// The exporter `tar`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TarExporter;

impl TarExporter {
    /// The exporter.
    pub fn new() -> Self {
        Self
    }
}

impl Exporter for TarExporter {
    fn name(&self) -> &'static str {
        "tar"
    }

    fn resolve(
        &self,
        index: usize,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn ExporterInstance>, Error> {
        Ok(Arc::new(Instance { index, options: TreeOptions::parse(attrs)? }))
    }
}

struct Instance {
    index: usize,
    options: TreeOptions,
}

#[async_trait]
impl ExporterInstance for Instance {
    fn description(&self) -> String {
        "exporting to client tarball".to_owned()
    }

    async fn export(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error> {
        tokio::select! {
            exported = self.transfer(cx, result) => exported,
            () = cx.cancelled.cancelled() => Err(Error::Other {
                action: "failed to export".to_owned(),
                kind: Kind::Cancelled,
                source: "context canceled".into(),
            }),
        }
    }
}

fn failed<E>(source: E) -> Error
where
    E: Classify + Send + Sync + 'static,
{
    Error::Other {
        action: "failed to export to client tarball".to_owned(),
        kind: source.kind(),
        source: source.into(),
    }
}

impl Instance {
    async fn transfer(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error> {
        let (trees, several) = open_trees(result, &self.options).await?;
        let fs: Arc<dyn FileSystem> = match trees.first() {
            Some(only) if !several => only.fs.clone(),
            _ => Arc::new(in_directories(&trees)?),
        };
        let caller = cx.sessions.get(&cx.session_id, LOOKUP_WAIT).await.map_err(failed)?;
        let mut writer = copy_file_writer(&caller, &BTreeMap::new(), self.index).map_err(failed)?;
        let part = cx.progress.start("sending tarball");
        let written = spawn_blocking(move || {
            let result = archive::write_tree(fs.as_ref(), &mut writer);
            (writer, result)
        });
        let (writer, written) = written.await.map_err(|error| failed(SyncError::Task(error)))?;
        if let Err(error) = written {
            // If it was the client who ended it, its reason says more.
            return match writer.abandon().await {
                Some(SyncError::AlreadyExists(_)) => Ok(Exported::default()),
                Some(reason) => Err(failed(reason)),
                None => Err(failed(error)),
            };
        }
        match writer.finish().await {
            Ok(()) | Err(SyncError::AlreadyExists(_)) => {
                part.done(0, 0);
                Ok(Exported::default())
            }
            Err(error) => Err(failed(error)),
        }
    }
}
