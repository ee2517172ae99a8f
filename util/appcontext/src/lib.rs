//! Structured concurrency: the only place that spawns tasks and handles process signals.
//!
//! A task is born with a [`TaskGuard`] that aborts it when dropped, so work never outlives the one
//! who wanted it. Work that must go on is detached by name: [`detach`].
#![forbid(unsafe_code)]

mod signals;
mod task;

pub use signals::shutdown_signals;
pub use task::{TaskError, TaskGuard, detach, detach_blocking, spawn, spawn_blocking, spawn_thread};
