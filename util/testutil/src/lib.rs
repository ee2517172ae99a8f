//! End-to-end test harness: daemons, registries, base images and a census of leftovers.
//!
//! A [`TestDaemon`] is the real program in a directory of its own, driven through the real client. Everything
//! here panics when it cannot do what it is asked for: a test without its daemon has failed. What a test
//! starts ends with the value that stands for it, also when the test panics; then the daemon's log is shown.
//!
//! ```no_run
//! use buildkit_util_testutil::TestDaemon;
//!
//! let mut daemon = TestDaemon::start();
//! let before = daemon.census();
//! daemon.buildctl(["build", "--no-cache"]).stdin(b"not a graph").run().assert_fails();
//! daemon.assert_nothing_left(&before);
//! daemon.restart();
//! daemon.buildctl(["du"]).run().assert_ok();
//! ```
#![forbid(unsafe_code)]

mod authority;
mod binaries;
mod census;
mod daemon;
mod disk;
mod http;
mod image;
mod process;
mod registry;
mod registry_options;
mod rootfs;
mod soak;
mod token_server;
mod wait;

pub use authority::Authority;
pub use binaries::binary;
pub use census::Census;
pub use daemon::{DaemonOptions, TestDaemon};
pub use disk::SmallDisk;
pub use http::Response;
pub use image::{Image, Layer};
pub use process::{Output, Run, Running};
pub use registry::Registry;
pub use registry_options::{PASSWORD, RegistryAuth, RegistryOptions, USER};
pub use rootfs::busybox_rootfs;
pub use soak::{rounds, rounds_or};
pub use token_server::{TokenRequest, TokenServer};
pub use wait::wait_for;
