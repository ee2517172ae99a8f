//! Reads and checks buildkitd.toml.
//!
//! Keys and their meaning are upstream's (`cmd/buildkitd/config`). A key that is not known is not an
//! error: [`Loaded::unknown`] names it so that the daemon can warn, and [`Loaded::idle`] those that it knows but
//! does nothing with.
#![forbid(unsafe_code)]

mod file;
mod gc;
mod idle;
mod types;

pub use file::{Error, Loaded, load, parse};
pub use gc::parse_gc_flag;
pub use types::{
    Cdi, Config, ContainerdWorker, DiskSpace, Dns, Duration, Frontends, Gc, GcPolicyConfig, Grpc, History,
    KeyPair, Log, Network, OciWorker, Otel, Registry, System, Tls, ToggledFrontend, Workers,
};
