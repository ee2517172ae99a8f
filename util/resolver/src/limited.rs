use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits how many transfers go on with one registry. What is pulled and what is pushed wait in queues
/// of their own: a push may wait for a pull from the same registry, which must not wait for it.
pub(crate) struct Limited {
    size: usize,
    lanes: Mutex<HashMap<(String, bool), Arc<Lanes>>>,
}

struct Lanes {
    blobs: Arc<Semaphore>,
    /// One more than blobs have, so that manifests get through.
    all: Arc<Semaphore>,
}

/// One transfer; it ends with the value.
pub(crate) struct Permit {
    _all: OwnedSemaphorePermit,
    _blob: Option<OwnedSemaphorePermit>,
}

impl Limited {
    pub(crate) fn new(size: usize) -> Self {
        Self { size: size.clamp(1, Semaphore::MAX_PERMITS - 1), lanes: Mutex::default() }
    }

    /// Waits for a place at a registry.
    pub(crate) async fn acquire(&self, domain: &str, is_push: bool, media_type: &str) -> Option<Permit> {
        let lanes = {
            let mut lanes = self.lanes.lock();
            // Names come from clients. Lanes in use live on in their permits.
            if lanes.len() > 10_000 {
                lanes.retain(|_, lanes| Arc::strong_count(&lanes.all) > 1);
            }
            let new = || {
                Arc::new(Lanes {
                    blobs: Arc::new(Semaphore::new(self.size)),
                    all: Arc::new(Semaphore::new(self.size + 1)),
                })
            };
            lanes.entry((domain.to_owned(), is_push)).or_insert_with(new).clone()
        };
        let blob = if media_type.ends_with("+json") {
            None
        } else {
            Some(lanes.blobs.clone().acquire_owned().await.ok()?)
        };
        Some(Permit { _all: lanes.all.clone().acquire_owned().await.ok()?, _blob: blob })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manifests_have_a_lane_of_their_own() {
        let limited = Limited::new(2);
        let one = limited.acquire("a", false, "layer").await;
        let _two = limited.acquire("a", false, "layer").await;
        let third = limited.acquire("a", false, "layer");
        tokio::pin!(third);
        assert!(futures::poll!(&mut third).is_pending());
        let _manifest = limited.acquire("a", false, "application/x+json").await;
        let _other = limited.acquire("b", false, "layer").await;
        let _push = limited.acquire("a", true, "layer").await;
        drop(one);
        assert!(third.await.is_some());
    }
}
