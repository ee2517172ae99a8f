//! Delivers results as files into a client directory.
//!
//! The trees of a result, put together as [`open_trees`] and [`PlatformTree`] say, are sent over the
//! session. The options are those of upstream: `platform-split`, `mode`, `attestation-prefix`,
//! `source-date-epoch`.
#![forbid(unsafe_code)]

mod exporter;
mod options;
mod trees;

pub use exporter::LocalExporter;
pub use options::{Mode, TreeOptions};
pub use trees::{PlatformTree, in_directories, open_trees};
