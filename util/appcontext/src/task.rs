#![expect(clippy::disallowed_methods, reason = "the one place that spawns")]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

/// A task that did not return a value.
#[derive(Debug)]
pub enum TaskError {
    /// The task was aborted, or its runtime ended.
    Cancelled,
    /// The task panicked with this message. The panic went no further.
    Panicked(String),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("Task was cancelled"),
            Self::Panicked(message) => write!(f, "Task panicked: {message}"),
        }
    }
}

impl std::error::Error for TaskError {}

/// Owns a running task: a future of its result, and its end when dropped.
///
/// Dropping the guard of a blocking task lets the closure run to its end (a thread cannot be
/// stopped); its result is discarded.
#[must_use = "dropping the guard aborts the task"]
pub struct TaskGuard<T> {
    handle: JoinHandle<T>,
}

impl<T> TaskGuard<T> {
    /// Asks the task to end at its next await point.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Future for TaskGuard<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(cx).map(|result| {
            result.map_err(|error| match error.try_into_panic() {
                Ok(payload) => TaskError::Panicked(
                    payload
                        .downcast_ref::<&str>()
                        .map(|text| (*text).to_owned())
                        .or_else(|| payload.downcast_ref::<String>().cloned())
                        .unwrap_or_else(|| "no message".to_owned()),
                ),
                Err(_) => TaskError::Cancelled,
            })
        })
    }
}

impl<T> Drop for TaskGuard<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Starts a task that ends when its guard is dropped. A panic ends only the task.
pub fn spawn<F>(future: F) -> TaskGuard<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    TaskGuard { handle: tokio::spawn(future) }
}

/// Runs synchronous work on the blocking pool. A panic ends only the work.
pub fn spawn_blocking<T, F>(work: F) -> TaskGuard<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    TaskGuard { handle: tokio::task::spawn_blocking(work) }
}

/// Starts a task that outlives its caller: for steps that must finish whoever has left, such as
/// writing a record for a snapshot that was committed. `name` says in logs what was detached.
pub fn detach<F>(name: &'static str, future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(tokio::spawn(async move {
        tracing::trace!(task = name, "detached task started");
        future.await;
    }));
}

/// As [`detach`], for synchronous work on the blocking pool.
pub fn detach_blocking<F>(name: &'static str, work: F)
where
    F: FnOnce() + Send + 'static,
{
    drop(tokio::task::spawn_blocking(move || {
        tracing::trace!(task = name, "detached work started");
        work();
    }));
}

/// Starts an operating system thread of this name for work that lives as long as its owner's
/// channel. The thread must end by itself when its owner is gone.
///
/// # Errors
/// When the system has no more threads.
pub fn spawn_thread<F>(name: &str, work: F) -> std::io::Result<std::thread::JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn dropping_the_guard_ends_the_task() {
        struct SetOnDrop(Arc<AtomicBool>);
        impl Drop for SetOnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let ended = Arc::new(AtomicBool::new(false));
        let flag = SetOnDrop(ended.clone());
        let guard = spawn(async move {
            let _flag = flag;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        drop(guard);
        while !ended.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_task() {
        let result = spawn(async { panic!("boom") }).await;
        assert!(matches!(result, Err(TaskError::Panicked(text)) if text == "boom"));
        assert_eq!(spawn_blocking(|| 7).await.expect("runs"), 7);
    }
}
