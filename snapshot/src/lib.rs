//! Port of snapshotters with merge and diff, and their conformance suite.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod mount;
mod port;

pub use mount::{Mount, MountKind};
pub use port::{ActiveKey, Change, Error, Info, MergeInput, SnapshotKind, SnapshotName, Snapshotter, Usage};
