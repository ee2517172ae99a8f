use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_exporter::{Error, ExportContext, ExportResult, Exported, Exporter, ExporterInstance};
use buildkit_session::LOOKUP_WAIT;
use buildkit_session_filesync::copy_to_caller;
use buildkit_util_fsutil::{FileSystem, MergeFs, Progress};
use buildkit_util_progress::Writer;
use parking_lot::Mutex;

use crate::trees::check_disjoint;
use crate::{Mode, TreeOptions, in_directories, open_trees};

/// Time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// The exporter `local`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalExporter;

impl LocalExporter {
    /// The exporter.
    pub fn new() -> Self {
        Self
    }
}

impl Exporter for LocalExporter {
    fn name(&self) -> &'static str {
        "local"
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
        "exporting to client directory".to_owned()
    }

    async fn export(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error> {
        tokio::select! {
            exported = self.transfer(cx, result) => exported,
            () = cx.cancelled.cancelled() => Err(cancelled()),
        }
    }
}

fn cancelled() -> Error {
    Error::Other {
        action: "failed to export".to_owned(),
        kind: Kind::Cancelled,
        source: "context canceled".into(),
    }
}

impl Instance {
    async fn transfer(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error> {
        let caller = cx.sessions.get(&cx.session_id, LOOKUP_WAIT).await.map_err(|source| Error::Other {
            action: "failed to export to client directory".to_owned(),
            kind: source.kind(),
            source: source.into(),
        })?;
        let (trees, several) = open_trees(result, &self.options).await?;
        let mut label = "copying files".to_owned();
        // One transfer for all platforms, so that a client that mirrors knows what belongs there.
        let fs: Arc<dyn FileSystem> = if self.options.splits(several) {
            if let [only] = trees.as_slice() {
                label = format!("{label} {}", only.id);
            }
            Arc::new(in_directories(&trees)?)
        } else {
            if trees.len() > 1 {
                check_disjoint(&trees).await?;
            }
            trees
                .iter()
                .map(|tree| tree.fs.clone())
                .reduce(|lower, upper| Arc::new(MergeFs::new(lower, upper)))
                .unwrap_or_else(|| Arc::new(buildkit_util_fsutil::StaticFs::new()))
        };
        let mirror = self.options.mode == Mode::Delete;
        let progress = report(&cx.progress, &label);
        copy_to_caller(&caller, fs, self.index, mirror, Some(progress)).await.map_err(|source| {
            Error::Other {
                action: "failed to export to client directory".to_owned(),
                kind: source.kind(),
                source: source.into(),
            }
        })?;
        Ok(Exported::default())
    }
}

/// Reports bytes as a part of a step, not more often than people can see.
fn report(progress: &Writer, id: &str) -> Progress {
    let state = Mutex::new((Some(progress.start(id)), Instant::now()));
    Arc::new(move |bytes, last| {
        let current = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut state = state.lock();
        if last {
            if let Some(part) = state.0.take() {
                part.done(current, 0);
            }
        } else if state.1.elapsed() >= REPORT_EVERY {
            state.1 = Instant::now();
            if let Some(part) = &state.0 {
                part.update(current, 0);
            }
        }
    })
}
