use buildkit_api_services_control::{
    BuildHistoryEvent, BuildHistoryRequest, StatusRequest, UpdateBuildHistoryRequest, status,
};
use buildkit_util_progress::SolveStatus;
use tokio::sync::mpsc;

use crate::{Client, Error, Result};

/// What a daemon tells of its builds.
#[derive(Debug)]
pub struct HistoryEvents {
    events: tonic::Streaming<BuildHistoryEvent>,
}

impl HistoryEvents {
    /// The next event; nothing when there are no more to come.
    ///
    /// # Errors
    /// When the daemon is lost or stops telling.
    pub async fn next(&mut self) -> Result<Option<BuildHistoryEvent>> {
        let event = self.events.message().await;
        event.map_err(|status| Error::request("failed to listen to the build history", &status))
    }
}

impl Client {
    /// Listens to what happens to builds and their records, beginning with those that there are.
    ///
    /// # Errors
    /// When the daemon cannot be asked or does not understand a filter.
    pub async fn build_history(&self, request: BuildHistoryRequest) -> Result<HistoryEvents> {
        let answer = self.control().listen_build_history(request).await;
        let answer =
            answer.map_err(|status| Error::request("failed to listen to the build history", &status))?;
        Ok(HistoryEvents { events: answer.into_inner() })
    }

    /// Deletes the record of a build, waits until it is wholly written, or pins or unpins it.
    ///
    /// # Errors
    /// When the daemon cannot be asked or has no such record.
    pub async fn update_build_history(&self, request: UpdateBuildHistoryRequest) -> Result<()> {
        let answer = self.control().update_build_history(request).await;
        answer.map_err(|status| Error::request("failed to update the build history", &status))?;
        Ok(())
    }

    /// Hands on the progress of a build that runs or is over, until it is complete or nobody takes it.
    ///
    /// # Errors
    /// When the daemon cannot be asked or knows no such build.
    pub async fn status(&self, reference: &str, progress: mpsc::Sender<SolveStatus>) -> Result<()> {
        let failed =
            |status: tonic::Status| Error::request("failed to read the progress of the build", &status);
        let request = StatusRequest { r#ref: reference.to_owned() };
        let mut messages = self.control().status(request).await.map_err(failed)?.into_inner();
        while let Some(message) = messages.message().await.map_err(failed)? {
            if progress.send(status::from_message(message)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
