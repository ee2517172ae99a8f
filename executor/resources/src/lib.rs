//! Reads and limits container resources through cgroups.
//!
//! A [`Cgroup`] is one container's place in all hierarchies of the host, of both versions. Making,
//! limiting, killing, reading and removing it are done here, without another process; where a runtime
//! makes it, the rest is.
#![deny(unsafe_code, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod cgroup;
mod create;
mod devices;
mod directory;
mod hierarchy;
mod limits;

pub use cgroup::Cgroup;
pub use create::OpenCgroup;
pub use devices::{Access, DeviceKind, DeviceRule, default_device_rules};
pub use hierarchy::{Hierarchies, Hierarchy};
pub use limits::{Limits, default_pids_limit};
