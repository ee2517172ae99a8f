//! Writes the caches that a client asks for, once the exporters are done.

use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_cache::{ImmutableRef, LayerOptions};
use buildkit_cache_remotecache::{CacheExport, CacheExporter};
use buildkit_errdefs::Kind;
use buildkit_exporter::ExportResult;
use buildkit_frontend::BridgeError;
use buildkit_session::SessionGroup;
use buildkit_solver::ExportMode;
use buildkit_util_cachedigest::Digest;
use buildkit_util_gotext::parse_bool;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::Writer;
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::build::{BuildCore, cancelled};
use crate::inline::ResultKeys;
use crate::step::Step;

/// A cache that is to be written.
pub(crate) struct CacheExportPlan {
    export: Arc<dyn CacheExport>,
    mode: ExportMode,
    /// A build without it is as good.
    ignore_error: bool,
}

impl CacheExportPlan {
    /// Reads the options of a cache.
    ///
    /// # Errors
    /// When nobody writes this kind, or an option of it makes no sense.
    pub(crate) fn new(
        exporters: &[Arc<dyn CacheExporter>],
        kind: &str,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Self, BridgeError> {
        let exporter = exporters
            .iter()
            .find(|exporter| exporter.kind() == kind)
            .ok_or_else(|| RemoteError::new(Kind::Unknown, format!("unknown cache exporter: {kind:?}")))?;
        let export = exporter.resolve(attrs).map_err(|error| RemoteError::from_error(&error).of_build())?;
        // What cannot be read of these two is passed over, as it is upstream.
        let mode = match attrs.get("mode").map(String::as_str) {
            Some("max") => ExportMode::Max,
            _ => ExportMode::Min,
        };
        let ignore_error = attrs.get("ignore-error").and_then(|text| parse_bool(text)).unwrap_or_default();
        Ok(Self { export, mode, ignore_error })
    }

    async fn write(
        &self,
        core: &BuildCore,
        keys: &ResultKeys,
        trees: &[ImmutableRef],
        progress: &Writer,
    ) -> Result<BTreeMap<String, String>, BridgeError> {
        let solver = &core.solver.shared.options;
        let options = LayerOptions { compression: self.export.compression(), rewrite: None };
        let part = progress.start("preparing build cache for export");
        let found = keys.records(trees, solver, &options, self.mode).await;
        part.done(0, 0);
        let (records, _held) = found.map_err(|error| RemoteError::from_error(&error).of_build())?;
        let provider = solver.solver.domain().services().cache.provider();
        let group = SessionGroup::new([core.info.session_id.clone()]);
        let part = progress.start("sending cache export");
        let written = self.export.write(&records, provider, &group, progress).await;
        part.done(0, 0);
        written.map_err(|error| RemoteError::from_error(&error).of_build().into())
    }
}

/// Writes all caches of a build, side by side; what they answer is for the client.
///
/// # Errors
/// When one cannot be written that matters.
pub(crate) async fn write_caches(
    core: &BuildCore,
    result: &ExportResult,
    stop: &CancellationToken,
) -> Result<BTreeMap<String, String>, BridgeError> {
    let Some(keys) = &core.keys else { return Ok(BTreeMap::new()) };
    let trees: Vec<ImmutableRef> = result.iter().cloned().collect();
    let exports = core.cache_exports.iter().enumerate().map(|(number, plan)| {
        let trees = &trees;
        async move {
            let digest = Digest::sha256(format!("{}-cache-{number}", core.info.session_id));
            let step = Step::new(core.job.progress(), digest, plan.export.description());
            let progress = step.writer();
            let written = step.run(async {
                tokio::select! {
                    written = plan.write(core, keys, trees, &progress) => written,
                    () = stop.cancelled() => Err(cancelled()),
                }
            });
            match written.await {
                Err(error) if plan.ignore_error => {
                    tracing::warn!(%error, "cache is not written");
                    Ok(BTreeMap::new())
                }
                written => written,
            }
        }
    });
    Ok(try_join_all(exports).await?.into_iter().flatten().collect())
}
