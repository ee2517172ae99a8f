//! Networks of containers that CNI plugins set up.
//!
//! A [`CniProvider`] makes network namespaces on threads of their own, keeps them as mounts below its
//! directory, and has the plugins of a [configuration](CniOptions) connect them, as the CNI specification
//! says. Namespaces are pooled: a container gets one that is ready. What a crash left behind is taken
//! down at the next start, with the configuration and the results that it was set up with.
//!
//! Plugins are programs of the machine's owner, but nothing that they do or print ends or fills this
//! process: their time and their output are limited, and an error says which plugin failed and why.
#![deny(unsafe_code)]

mod attach;
mod bridge;
mod config;
mod error;
mod lock;
mod namespace;
mod netlink;
mod plugin;
mod provider;

pub use error::Error;
pub use provider::{BridgeOptions, CniOptions, CniProvider};
