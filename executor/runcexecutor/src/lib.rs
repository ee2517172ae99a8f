//! Runs containers with runc or a compatible runtime.
//!
//! One runtime process per step: it starts the container, carries its output and reports its exit
//! code. Everything else (killing, counting, removing) is done in this process through cgroups and
//! the file system, so nothing depends on the runtime once the container has ended.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod container;
mod executor;
mod leftover;
mod log;
mod options;
mod process;
mod program;
mod tty;
mod version;

pub use executor::RuncExecutor;
pub use options::Options;
