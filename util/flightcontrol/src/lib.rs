//! Runs one piece of work per key for all that ask, cancelled with the last of them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let group = buildkit_util_flightcontrol::Group::<&str, u32>::new();
//! let (one, two) = tokio::join!(
//!     group.run("key", || async { tokio::task::yield_now().await; 7 }),
//!     group.run("key", || async { 8 }),
//! );
//! assert_eq!((one, two), (7, 7));
//! # }
//! ```
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

type Work<V> = BoxFuture<'static, V>;

/// Work that goes on, by key. Clones are the same group.
///
/// The work is driven by those who wait for it, and dropped when the last of them leaves: what it must not
/// leave half done, it has to hand to a task. Results are not kept; who asks after the end starts anew.
pub struct Group<K, V> {
    flights: Arc<Mutex<HashMap<K, WeakShared<Work<V>>>>>,
}

impl<K, V> Clone for Group<K, V> {
    fn clone(&self) -> Self {
        Self { flights: self.flights.clone() }
    }
}

impl<K, V> Default for Group<K, V> {
    fn default() -> Self {
        Self { flights: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone + Unpin, V: Clone + Send + Sync + 'static> Group<K, V> {
    /// A group in which nothing goes on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for the work of a key, which starts now unless it goes on already.
    pub async fn run<F: Future<Output = V> + Send + 'static>(&self, key: K, work: impl FnOnce() -> F) -> V {
        let flight = self.join(key.clone(), work);
        Waiter { group: self, key, flight: Some(flight) }.await
    }

    /// How many pieces of work go on.
    pub fn len(&self) -> usize {
        self.flights.lock().values().filter(|flight| flight.upgrade().is_some()).count()
    }

    /// Whether nothing goes on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn join<F: Future<Output = V> + Send + 'static>(
        &self,
        key: K,
        work: impl FnOnce() -> F,
    ) -> Shared<Work<V>> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade)
            // One that has ended is not joined: its value may be old.
            && flight.peek().is_none()
        {
            return flight;
        }
        let flight = work().boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        flight
    }
}

/// One who waits. When it leaves and nobody else waits, the key is forgotten.
struct Waiter<'g, K: Eq + Hash, V: Clone> {
    group: &'g Group<K, V>,
    key: K,
    /// `None` once it has ended.
    flight: Option<Shared<Work<V>>>,
}

impl<K: Eq + Hash + Unpin, V: Clone> Future for Waiter<'_, K, V> {
    type Output = V;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<V> {
        match &mut self.flight {
            Some(flight) => flight.poll_unpin(cx),
            None => Poll::Pending,
        }
    }
}

impl<K: Eq + Hash, V: Clone> Drop for Waiter<'_, K, V> {
    fn drop(&mut self) {
        // Before the lock is taken: this may drop the work, and whatever that does.
        drop(self.flight.take());
        let mut flights = self.group.flights.lock();
        let ended = flights
            .get(&self.key)
            .is_some_and(|flight| flight.upgrade().is_none_or(|flight| flight.peek().is_some()));
        if ended {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_is_shared_and_cancelled_with_the_last_who_waits() {
        struct Guard(Arc<AtomicUsize>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let group = Group::<u8, u8>::new();
        let (started, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let wait = || {
            let (group, started, dropped) = (group.clone(), started.clone(), dropped.clone());
            async move {
                group
                    .run(1, || {
                        started.fetch_add(1, Ordering::SeqCst);
                        let guard = Guard(dropped.clone());
                        async move {
                            let _guard = guard;
                            std::future::pending::<()>().await;
                            0
                        }
                    })
                    .await
            }
        };
        let (mut first, mut second) = (Box::pin(wait()), Box::pin(wait()));
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!((started.load(Ordering::SeqCst), group.len()), (1, 1));
        drop(first);
        assert_eq!(dropped.load(Ordering::SeqCst), 0, "somebody still waits");
        drop(second);
        assert_eq!((dropped.load(Ordering::SeqCst), group.flights.lock().len()), (1, 0));
        let mut third = Box::pin(wait());
        assert!(futures::poll!(&mut third).is_pending());
        assert_eq!(started.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn ended_work_is_forgotten() {
        let group = Group::<u8, usize>::new();
        for number in 0..3 {
            assert_eq!(group.run(1, || async move { number }).await, number);
            assert!(group.flights.lock().is_empty());
        }
    }
}
