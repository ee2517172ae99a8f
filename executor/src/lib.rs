//! Port of executors: run one process in a container.
#![forbid(unsafe_code)]

mod port;
#[cfg(feature = "test-util")]
pub mod testsuite;

pub use port::{
    ContainerMount, Error, ExecMount, Executor, Exit, HostEntry, Meta, NetMode, ProcessIo, ProcessSpec,
    ResourceLimits, RunRequest, SecurityMode, Ulimit,
};
