//! Runs the exporters of a build, each as a vertex of its progress.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_exporter::{CompatibilityVersion, ExportContext, ExportResult, Exported, ExporterInstance};
use buildkit_frontend::BridgeError;
use buildkit_session::SessionManager;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::{Bus, Event, Vertex, VertexWarning, Writer};
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

/// What exporters work with.
pub(crate) struct ExportPlan {
    pub(crate) sessions: SessionManager,
    pub(crate) session_id: String,
    pub(crate) progress: Bus,
    pub(crate) cancelled: CancellationToken,
    pub(crate) compatibility: CompatibilityVersion,
}

/// Runs all exporters side by side, and what is left to do of each once all have succeeded. Warnings
/// stand at the first of them.
pub(crate) async fn run_exporters(
    plan: &ExportPlan,
    exporters: Vec<Arc<dyn ExporterInstance>>,
    result: &ExportResult,
    warnings: &[String],
) -> Result<BTreeMap<String, String>, BridgeError> {
    let exports = exporters.iter().enumerate().map(|(index, exporter)| async move {
        let step = Step::new(plan, index, exporter.description());
        let cx = step.context(plan);
        let warnings = if index == 0 { warnings } else { &[] };
        step.run(async {
            warn(&cx.progress, warnings);
            exporter.export(&cx, result).await
        })
        .await
    });
    let exported: Vec<Exported> = try_join_all(exports).await?;
    if exporters.is_empty() && !warnings.is_empty() {
        let step = Step::new(plan, 0, "Verifying build result".to_owned());
        let cx = step.context(plan);
        step.run(async {
            warn(&cx.progress, warnings);
            Ok(())
        })
        .await?;
    }
    let mut response = BTreeMap::new();
    let mut finalizers = Vec::new();
    for (index, (exporter, exported)) in exporters.iter().zip(exported).enumerate() {
        response.extend(exported.response);
        if let Some(finalize) = exported.finalize {
            let step = Step::new(plan, index, exporter.description());
            finalizers.push(async move {
                let cx = step.context(plan);
                step.run(async { finalize.finalize(&cx).await }).await
            });
        }
    }
    for part in try_join_all(finalizers).await? {
        response.extend(part);
    }
    Ok(response)
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

/// One vertex of the progress that no op stands behind.
struct Step {
    vertex: Vertex,
    progress: Bus,
}

impl Step {
    fn new(plan: &ExportPlan, index: usize, name: String) -> Self {
        Self {
            vertex: Vertex {
                digest: Digest::sha256(format!("{}-export-{index}", plan.session_id)),
                inputs: Vec::new(),
                name,
                started: None,
                completed: None,
                cached: false,
                error: String::new(),
                progress_group: None,
            },
            progress: plan.progress.clone(),
        }
    }

    fn context(&self, plan: &ExportPlan) -> ExportContext {
        ExportContext {
            sessions: plan.sessions.clone(),
            session_id: plan.session_id.clone(),
            progress: Writer::for_bus(self.vertex.digest.clone(), self.progress.clone()),
            cancelled: plan.cancelled.clone(),
            compatibility: plan.compatibility,
        }
    }

    async fn run<T>(
        mut self,
        work: impl Future<Output = Result<T, buildkit_exporter::Error>>,
    ) -> Result<T, BridgeError> {
        self.vertex.started = Some(SystemTime::now());
        self.progress.publish(Event::Vertex(self.vertex.clone()));
        let result = work.await;
        self.vertex.completed = Some(SystemTime::now());
        if let Err(error) = &result {
            self.vertex.error = error.to_string();
        }
        self.progress.publish(Event::Vertex(self.vertex));
        result.map_err(|error| RemoteError::from_error(&error).into())
    }
}
