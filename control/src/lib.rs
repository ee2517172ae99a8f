//! The Control service of the daemon.
//!
//! Turns wire messages into calls of the solver, the workers and the session manager, and back; it
//! decides nothing else. Behaviour follows upstream `control/control.go`.
#![forbid(unsafe_code)]

mod collect;
mod convert;
mod history;
mod request;
mod service;
mod solve;
mod trace;

pub use collect::GarbageCollector;
pub use service::{Control, ControlOptions};
pub use trace::NoTraces;
