//! Runs the exporters of a build, each as a vertex of its progress.

use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_exporter::{
    CompatibilityVersion, Error as ExportError, ExportContext, ExportResult, Exported, ExportedImage,
    ExporterInstance,
};
use buildkit_frontend::BridgeError;
use buildkit_session::SessionManager;
use buildkit_solver_errdefs::compatibility_feature;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::{Bus, VertexWarning, Writer};
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::step::Step;

/// What exporters work with.
pub(crate) struct ExportPlan {
    pub(crate) sessions: SessionManager,
    pub(crate) session_id: String,
    pub(crate) progress: Bus,
    pub(crate) cancelled: CancellationToken,
    pub(crate) compatibility: CompatibilityVersion,
}

/// What a build delivered.
#[derive(Debug, Default)]
pub struct Delivered {
    /// What exporters answered.
    pub response: BTreeMap<String, String>,
    /// Images that exporters made, by the exporters' positions.
    pub images: BTreeMap<usize, ExportedImage>,
}

/// Runs all exporters side by side, and what is left to do of each once all have succeeded. Warnings
/// stand at the first of them.
pub(crate) async fn run_exporters(
    plan: &ExportPlan,
    exporters: Vec<Arc<dyn ExporterInstance>>,
    result: &ExportResult,
    warnings: &[String],
) -> Result<Delivered, BridgeError> {
    let exports = exporters.iter().enumerate().map(|(index, exporter)| async move {
        let vertex = step(plan, index, exporter.description());
        let cx = context(plan, &vertex);
        let warnings = if index == 0 { warnings } else { &[] };
        vertex
            .run(async {
                warn(&cx.progress, warnings);
                exporter.export(&cx, result).await.map_err(failed)
            })
            .await
    });
    let exported: Vec<Exported> = try_join_all(exports).await?;
    if exporters.is_empty() && !warnings.is_empty() {
        let vertex = step(plan, 0, "Verifying build result".to_owned());
        let cx = context(plan, &vertex);
        vertex
            .run(async {
                warn(&cx.progress, warnings);
                Ok(())
            })
            .await?;
    }
    let mut delivered = Delivered::default();
    let mut finalizers = Vec::new();
    for (index, (exporter, exported)) in exporters.iter().zip(exported).enumerate() {
        delivered.response.extend(exported.response);
        delivered.images.extend(exported.image.map(|image| (index, image)));
        if let Some(finalize) = exported.finalize {
            let vertex = step(plan, index, exporter.description());
            finalizers.push(async move {
                let cx = context(plan, &vertex);
                vertex.run(async { finalize.finalize(&cx).await.map_err(failed) }).await
            });
        }
    }
    for part in try_join_all(finalizers).await? {
        delivered.response.extend(part);
    }
    Ok(delivered)
}

fn warn(progress: &Writer, warnings: &[String]) {
    for text in warnings {
        progress.warn(VertexWarning {
            vertex: Digest::sha256(""), // The writer's.
            level: 0,
            short: text.clone().into(),
            detail: Vec::new(),
            url: String::new(),
            source_info: None,
            ranges: Vec::new(),
        });
    }
}

fn failed(error: ExportError) -> BridgeError {
    let remote = RemoteError::from_error(&error).of_build();
    match &error {
        ExportError::Incompatible { version, feature } => {
            remote.with(compatibility_feature(version.number(), feature)).into()
        }
        _ => remote.into(),
    }
}

fn step(plan: &ExportPlan, index: usize, name: String) -> Step {
    Step::new(&plan.progress, Digest::sha256(format!("{}-export-{index}", plan.session_id)), name)
}

fn context(plan: &ExportPlan, step: &Step) -> ExportContext {
    ExportContext {
        sessions: plan.sessions.clone(),
        session_id: plan.session_id.clone(),
        progress: step.writer(),
        cancelled: plan.cancelled.clone(),
        compatibility: plan.compatibility,
    }
}
