//! Chooses the networks of a worker by the name of a mode.
#![forbid(unsafe_code)]

mod providers;

pub use providers::{Error, NetworkOptions, open};
