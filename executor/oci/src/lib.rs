//! Builds OCI runtime specifications for build containers.
//!
//! [`generate()`] is pure: it turns what is known of a container into a [`spec::Spec`]. The parts that
//! touch the system stand beside it: [`EtcFiles`] keeps `hosts` and `resolv.conf`,
//! [`PreparedMounts`] resolves sub-paths of mounts, and [`MountStubs`] removes the mount points that
//! a container needed and its image did not have.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod abi;
mod caps;
mod etc;
mod generate;
mod mounts;
mod prepare;
mod seccomp;
pub mod spec;
mod stubs;

pub use abi::runs_x32;
pub use caps::{DEFAULT_CAPABILITIES, current_capabilities};
pub use etc::{DEFAULT_HOSTNAME, DnsConfig, EtcFiles, hosts_text};
pub use generate::{SpecInput, cgroups_path, exec_process, generate};
pub use mounts::{check_destination, check_root};
pub use prepare::PreparedMounts;
pub use seccomp::default_profile;
pub use stubs::{MountStubs, StubKind};
