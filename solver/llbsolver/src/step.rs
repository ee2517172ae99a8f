use std::future::Future;
use std::time::SystemTime;

use buildkit_frontend::BridgeError;
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::{Bus, Event, Vertex, Writer};

/// One vertex of the progress that no op stands behind.
pub(crate) struct Step {
    vertex: Vertex,
    progress: Bus,
}

impl Step {
    pub(crate) fn new(progress: &Bus, digest: Digest, name: String) -> Self {
        Self {
            vertex: Vertex {
                digest,
                inputs: Vec::new(),
                name,
                started: None,
                completed: None,
                cached: false,
                error: String::new(),
                progress_group: None,
            },
            progress: progress.clone(),
        }
    }

    /// Writes what happens in it.
    pub(crate) fn writer(&self) -> Writer {
        Writer::for_bus(self.vertex.digest.clone(), self.progress.clone())
    }

    /// Shows work as this vertex, from its start to its end.
    pub(crate) async fn run<T>(
        mut self,
        work: impl Future<Output = Result<T, BridgeError>>,
    ) -> Result<T, BridgeError> {
        self.vertex.started = Some(SystemTime::now());
        self.progress.publish(Event::Vertex(self.vertex.clone()));
        let result = work.await;
        self.vertex.completed = Some(SystemTime::now());
        if let Err(error) = &result {
            self.vertex.error = error.to_string();
        }
        self.progress.publish(Event::Vertex(self.vertex));
        result
    }
}
