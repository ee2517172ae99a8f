//! Reads and limits container resources through cgroups.
//!
//! A [`Cgroup`] is one container's place in all hierarchies of the host, of both versions. The
//! runtime makes it; killing, reading and removing are done here, without another process.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod cgroup;
mod hierarchy;
mod limits;

pub use cgroup::Cgroup;
pub use hierarchy::{Hierarchies, Hierarchy};
pub use limits::default_pids_limit;
