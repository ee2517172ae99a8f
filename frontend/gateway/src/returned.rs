//! The one result that a build's driver returns.

use buildkit_frontend::{BridgeError, FrontendResult};
use tokio::sync::watch;

type Outcome = Option<Result<FrontendResult, BridgeError>>;

/// Set once by the driver, awaited by the build.
pub(crate) struct Returned {
    sender: watch::Sender<Outcome>,
}

impl Returned {
    pub(crate) fn new() -> Self {
        Self { sender: watch::Sender::new(None) }
    }

    /// Sets the result; only the first one counts. Says whether this was the first.
    pub(crate) fn set(&self, outcome: Result<FrontendResult, BridgeError>) -> bool {
        self.sender.send_if_modified(|current| {
            let is_first = current.is_none();
            if is_first {
                *current = Some(outcome);
            }
            is_first
        })
    }

    /// Waits for the result.
    pub(crate) async fn wait(&self) -> Result<FrontendResult, BridgeError> {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(outcome) = &*receiver.borrow_and_update() {
                return outcome.clone();
            }
            // The sender lives in `self`, so waiting cannot fail.
            let _ = receiver.changed().await;
        }
    }
}
