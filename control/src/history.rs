//! Builds and their records.

use buildkit_api_services_control::{SolveRequest, StatusResponse, status as wire};
use buildkit_frontend::BridgeError;
use buildkit_solver_llbsolver::{Build, Delivered};
use buildkit_solver_llbsolver_history::{
    Delivered as Recorded, DeliveredImage, NewBuild, Recording, TraceParent,
};
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::{SkippedSteps, Subscription};
use futures::stream::{BoxStream, StreamExt as _};
use tonic::Status;

use crate::service::Control;

/// Progress as it is sent.
type Progress = BoxStream<'static, Result<StatusResponse, Status>>;

impl Control {
    /// Starts the record of a build, unless its client wants none.
    pub(crate) fn record(
        &self,
        build: &Build,
        request: &SolveRequest,
        parent: Option<TraceParent>,
    ) -> Option<Recording> {
        if request.internal {
            return None;
        }
        let exporters = request.exporters.iter();
        let (solver, id) = (self.shared.options.solver.clone(), request.r#ref.clone());
        self.shared.options.history.start(NewBuild {
            reference: request.r#ref.clone(),
            frontend: request.frontend.clone(),
            frontend_attrs: request.frontend_attrs.clone(),
            exporters: exporters.map(|exporter| (exporter.r#type.clone(), exporter.attrs.clone())).collect(),
            progress: build.progress(),
            parent,
            // Progress is read from the record from now on.
            recorded: Box::new(move || solver.forget_status(&id)),
        })
    }

    /// The progress of a build from its beginning: as it is made, as its record has it, or as soon as it starts.
    pub(crate) async fn progress_of(&self, build: &str) -> Result<Progress, Status> {
        let options = &self.shared.options;
        if let Some(progress) = options.solver.known_status(build) {
            return Ok(live(progress));
        }
        let replay = options.history.replay(build).await.map_err(|error| RemoteError::from_error(&error))?;
        match replay {
            Some(replay) => Ok(replay
                .map(|message| message.map_err(|error| RemoteError::from_error(&error).into()))
                .boxed()),
            None => Ok(live(options.solver.status(build).await?)),
        }
    }
}

fn live(progress: Subscription) -> Progress {
    let reader = (progress, SkippedSteps::default());
    let messages = futures::stream::unfold(reader, |(mut progress, mut skipped)| async move {
        let mut status = progress.next().await?;
        skipped.complete(&mut status);
        let messages = futures::stream::iter(wire::to_messages(status).into_iter().map(Ok));
        Some((messages, (progress, skipped)))
    });
    messages.flatten().boxed()
}

/// How a build ended, as it is recorded.
pub(crate) fn outcome(delivered: Result<Delivered, BridgeError>) -> Result<Recorded, RemoteError> {
    let delivered = delivered.map_err(|error| error.error)?;
    let images = delivered.images.into_iter().map(|(index, image)| {
        (index, DeliveredImage { descriptor: image.descriptor, documents: image.documents })
    });
    Ok(Recorded { response: delivered.response, images: images.collect() })
}
