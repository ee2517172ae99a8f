//! Prepares the mounts of an exec: refs, caches, secrets, agents and tmpfs.
//!
//! One [`MountManager`] serves a daemon; [`MountManager::exec`] gives each step its [`ExecMounts`].
//! What those return keeps what it stands for: a cache directory stays in use, a secret stays in its
//! tmpfs and an agent answers until the value is dropped.
#![forbid(unsafe_code)]

mod caches;
mod error;
mod host;
mod manager;

pub use caches::{CacheMount, Sharing};
pub use error::Error;
pub use host::HostMount;
pub use manager::{AgentRequest, CacheRequest, ExecMounts, MountManager, SecretRequest};
