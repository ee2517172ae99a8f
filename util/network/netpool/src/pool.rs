use std::collections::VecDeque;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use buildkit_util_appcontext::detach;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an item beyond the size of its pool stays without being wanted.
pub const IDLE_TIME: Duration = Duration::from_secs(5 * 60);

/// How many items are let go of at a time when a pool closes.
const RELEASES: usize = 8;

/// Makes items and takes them apart.
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// What is lent.
    type Item: Send + Sync + 'static;
    /// Why there is none.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Makes an item. It runs to its end also when the one who asked has left.
    async fn create(&self) -> Result<Self::Item, Self::Error>;

    /// Takes an item apart that nobody will use again. What goes wrong is the factory's to log.
    async fn release(&self, item: Self::Item);
}

/// Why nothing is lent.
#[derive(Debug, thiserror::Error)]
pub enum Error<E: std::error::Error + Send + Sync + 'static> {
    /// No item could be made.
    #[error(transparent)]
    Create(E),
    /// The pool was closed.
    #[error("The pool is closed")]
    Closed,
    /// The task that made the item ended without one.
    #[error("The item was lost while it was made")]
    Lost,
}

/// Lends items and keeps those that come back. Clones are the same pool.
pub struct Pool<F: Factory> {
    shared: Arc<Shared<F>>,
}

impl<F: Factory> Clone for Pool<F> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<F: Factory> {
    factory: Arc<F>,
    target: usize,
    state: Mutex<State<F::Item>>,
    /// Everything that makes or releases, so that closing can wait for it.
    tasks: TaskTracker,
    closed: CancellationToken,
}

struct State<I> {
    /// Items that are lent or idle.
    total: usize,
    /// Items and since when they wait, the one that has waited longest in front.
    idle: VecDeque<(I, Instant)>,
    /// Whether a task looks after items that wait too long.
    trimming: bool,
    closed: bool,
}

impl<F: Factory> Pool<F> {
    /// A pool without items yet, which keeps up to `target` of them for good.
    pub fn new(factory: Arc<F>, target: usize) -> Self {
        let state = State { total: 0, idle: VecDeque::new(), trimming: false, closed: false };
        Self {
            shared: Arc::new(Shared {
                factory,
                target,
                state: Mutex::new(state),
                tasks: TaskTracker::new(),
                closed: CancellationToken::new(),
            }),
        }
    }

    /// Lends an item: the one that came back last, or a new one. An item that is made for someone who
    /// does not wait for it is kept for the next.
    pub async fn get(&self) -> Result<Lease<F>, Error<F::Error>> {
        let idle = {
            let mut state = self.shared.state.lock();
            if state.closed {
                return Err(Error::Closed);
            }
            state.idle.pop_back()
        };
        if let Some((item, _)) = idle {
            return Ok(self.shared.lease(item, true));
        }
        let factory = self.shared.factory.clone();
        self.make(true, async move { factory.create().await }).await
    }

    /// Lends what `make` makes, which nobody else will get: it is released when it comes back.
    pub async fn get_own(
        &self,
        make: impl Future<Output = Result<F::Item, F::Error>> + Send + 'static,
    ) -> Result<Lease<F>, Error<F::Error>> {
        self.make(false, make).await
    }

    async fn make(
        &self,
        reusable: bool,
        make: impl Future<Output = Result<F::Item, F::Error>> + Send + 'static,
    ) -> Result<Lease<F>, Error<F::Error>> {
        let (sender, receiver) = oneshot::channel();
        let shared = self.shared.clone();
        self.shared.track("make an item of a pool", async move {
            let made = shared.count(reusable, make).await;
            // Without a receiver the lease ends here, and its item is kept or released.
            let _ = sender.send(made);
        });
        receiver.await.unwrap_or(Err(Error::Lost))
    }

    /// Makes items in the background until the pool has its size. It stops with a warning when one
    /// cannot be made.
    pub fn fill(&self) {
        let shared = self.shared.clone();
        self.shared.track("fill a pool", async move {
            let mut made = Vec::new();
            while shared.wants_more() {
                match shared.count(true, shared.factory.create()).await {
                    Ok(lease) => made.push(lease),
                    Err(Error::Create(error)) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "a pool is not filled");
                        break;
                    }
                    Err(Error::Closed | Error::Lost) => break,
                }
                // Each may be lent at once.
                made.clear();
            }
        });
    }

    /// Runs work that closing waits for.
    pub fn track(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.track(name, work);
    }

    /// Lends nothing more, releases all that is idle, and waits until everything that is being made or
    /// released is gone. Items that are lent are released when they come back.
    pub async fn close(&self) {
        let idle = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.total -= state.idle.len();
            std::mem::take(&mut state.idle)
        };
        self.shared.closed.cancel();
        let factory = &self.shared.factory;
        futures::stream::iter(idle).for_each_concurrent(RELEASES, |(item, _)| factory.release(item)).await;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl<F: Factory> Shared<F> {
    fn track(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        detach(name, self.tasks.track_future(work));
    }

    fn lease(self: &Arc<Self>, item: F::Item, reusable: bool) -> Lease<F> {
        Lease { item: Some(item), reusable: AtomicBool::new(reusable), shared: self.clone() }
    }

    fn wants_more(&self) -> bool {
        let state = self.state.lock();
        !state.closed && state.total < self.target
    }

    /// Makes an item and counts it.
    async fn count(
        self: &Arc<Self>,
        reusable: bool,
        make: impl Future<Output = Result<F::Item, F::Error>>,
    ) -> Result<Lease<F>, Error<F::Error>> {
        if self.state.lock().closed {
            return Err(Error::Closed);
        }
        let item = make.await.map_err(Error::Create)?;
        let closed = {
            let mut state = self.state.lock();
            state.total += 1;
            state.closed
        };
        let lease = self.lease(item, reusable);
        // The end of the lease releases what was made for a pool that has closed meanwhile.
        if closed { Err(Error::Closed) } else { Ok(lease) }
    }

    /// Takes back what was lent.
    fn put(self: &Arc<Self>, item: F::Item, reusable: bool) {
        let mut state = self.state.lock();
        if state.closed || !reusable {
            state.total -= 1;
            drop(state);
            let factory = self.factory.clone();
            self.track("release an item of a pool", async move { factory.release(item).await });
            return;
        }
        state.idle.push_back((item, Instant::now()));
        if state.total > self.target && !state.trimming {
            state.trimming = true;
            drop(state);
            let shared = self.clone();
            self.track("trim a pool", async move { shared.trim().await });
        }
    }

    /// Releases items that wait too long, until the pool has its size or all others are lent.
    async fn trim(self: Arc<Self>) {
        loop {
            let oldest = {
                let mut state = self.state.lock();
                let oldest = state.idle.front().map(|(_, since)| *since + IDLE_TIME);
                match oldest.filter(|_| state.total > self.target && !state.closed) {
                    Some(due) if due <= Instant::now() => {
                        state.total -= 1;
                        Ok(state.idle.pop_front())
                    }
                    Some(due) => Err(due),
                    None => {
                        state.trimming = false;
                        return;
                    }
                }
            };
            match oldest {
                Ok(item) => {
                    if let Some((item, _)) = item {
                        self.factory.release(item).await;
                    }
                }
                Err(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.closed.cancelled() => {}
                },
            }
        }
    }
}

/// An item that is lent. Dropping it gives the item back.
pub struct Lease<F: Factory> {
    /// There until the lease is dropped.
    item: Option<F::Item>,
    reusable: AtomicBool,
    shared: Arc<Shared<F>>,
}

impl<F: Factory> Lease<F> {
    /// Nobody will get this item again: it is released when it comes back.
    pub fn spoil(&self) {
        self.reusable.store(false, Ordering::Relaxed);
    }
}

impl<F: Factory> Deref for Lease<F> {
    type Target = F::Item;

    fn deref(&self) -> &F::Item {
        match &self.item {
            Some(item) => item,
            // Only `drop` takes it, after which nobody can ask.
            None => unreachable!("the item of a lease that has ended"),
        }
    }
}

impl<F: Factory> std::fmt::Debug for Lease<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl<F: Factory> Drop for Lease<F> {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.shared.put(item, *self.reusable.get_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in the order in which they are made; those that were released are written down.
    #[derive(Default)]
    struct Numbers {
        made: Mutex<u32>,
        released: Mutex<Vec<u32>>,
        fails: AtomicBool,
        /// While it is held, making does not end.
        gate: tokio::sync::Mutex<()>,
    }

    #[async_trait]
    impl Factory for Numbers {
        type Item = u32;
        type Error = std::fmt::Error;

        async fn create(&self) -> Result<u32, std::fmt::Error> {
            let _open = self.gate.lock().await;
            if self.fails.load(Ordering::Relaxed) {
                return Err(std::fmt::Error);
            }
            let mut made = self.made.lock();
            *made += 1;
            Ok(*made)
        }

        async fn release(&self, item: u32) {
            self.released.lock().push(item);
        }
    }

    fn pool(target: usize) -> (Arc<Numbers>, Pool<Numbers>) {
        let factory = Arc::new(Numbers::default());
        (factory.clone(), Pool::new(factory, target))
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn items_are_lent_again_and_closing_releases_them() {
        let (factory, pool) = pool(1);
        let first = pool.get().await.expect("an item");
        assert_eq!(*first, 1);
        drop(first);
        let again = pool.get().await.expect("an item");
        let other = pool.get().await.expect("an item");
        assert_eq!((*again, *other), (1, 2));
        drop(other);
        pool.close().await;
        assert_eq!(*factory.released.lock(), [2], "what is lent is not taken away");
        assert!(matches!(pool.get().await, Err(Error::Closed)));
        drop(again);
        pool.close().await;
        assert_eq!(*factory.released.lock(), [2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_beyond_the_size_goes_when_it_was_idle_for_long() {
        let (factory, pool) = pool(1);
        let leases =
            [pool.get().await, pool.get().await, pool.get().await].map(|lease| lease.expect("an item"));
        drop(leases);
        settle().await;
        tokio::time::advance(IDLE_TIME / 2).await;
        // The last that came back is wanted now and again, the others are not.
        drop(pool.get().await.expect("an item"));
        tokio::time::advance(IDLE_TIME / 2).await;
        settle().await;
        assert_eq!(*factory.released.lock(), [1, 2]);
        tokio::time::advance(IDLE_TIME * 2).await;
        settle().await;
        assert_eq!(*factory.released.lock(), [1, 2], "the size is kept for good");
        assert_eq!(*pool.get().await.expect("an item"), 3);
        // The one who trims has gone, and is there again when he is needed.
        drop([pool.get().await.expect("an item"), pool.get().await.expect("an item")]);
        tokio::time::advance(IDLE_TIME).await;
        settle().await;
        assert_eq!(factory.released.lock().len(), 3);
        pool.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn pools_are_filled_until_something_fails() {
        let (factory, pool) = pool(3);
        pool.fill();
        settle().await;
        assert_eq!(*factory.made.lock(), 3);
        assert_eq!(*pool.get().await.expect("an item"), 3);
        pool.close().await;
        assert_eq!(factory.released.lock().len(), 3);

        let (factory, pool) = super::tests::pool(3);
        factory.fails.store(true, Ordering::Relaxed);
        pool.fill();
        settle().await;
        assert!(matches!(pool.get().await, Err(Error::Create(_))));
        factory.fails.store(false, Ordering::Relaxed);
        assert_eq!(*pool.get().await.expect("an item"), 1);
        pool.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn spoilt_items_and_those_of_their_own_are_not_lent_again() {
        let (factory, pool) = pool(5);
        let lease = pool.get().await.expect("an item");
        lease.spoil();
        drop(lease);
        drop(pool.get_own(async { Ok(77) }).await.expect("an item"));
        settle().await;
        assert_eq!(*factory.released.lock(), [1, 77]);
        assert_eq!(*pool.get().await.expect("an item"), 2);
        pool.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_kept_and_a_closed_pool_keeps_nothing() {
        let (factory, pool) = pool(5);
        let gate = factory.gate.lock().await;
        {
            let mut asked = std::pin::pin!(pool.get());
            assert!(futures::poll!(asked.as_mut()).is_pending());
        }
        drop(gate);
        settle().await;
        assert_eq!(*pool.get().await.expect("an item"), 1);
        assert_eq!(*factory.made.lock(), 1);

        let gate = factory.gate.lock().await;
        // The idle one is taken, so that another has to be made.
        let _held = pool.get().await.expect("an item");
        let mut asked = std::pin::pin!(pool.get());
        assert!(futures::poll!(asked.as_mut()).is_pending());
        settle().await;
        let mut closing = std::pin::pin!(pool.close());
        assert!(futures::poll!(closing.as_mut()).is_pending());
        drop(gate);
        closing.await;
        assert!(matches!(asked.await, Err(Error::Closed)));
        assert_eq!(*factory.released.lock(), [2]);
    }
}
