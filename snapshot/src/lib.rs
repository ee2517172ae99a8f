//! Port of snapshotters with merge and diff, and their conformance suite.
//!
//! [`Snapshotter`] is the port. [`Layered`] implements it for everything that keeps one directory per
//! snapshot, given a [`Backend`] that knows how a directory relates to its parents. [`LocalMounter`]
//! makes a [`Mount`] visible to this process.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod apply;
mod copy;
mod flatten;
mod index;
mod layered;
mod mount;
mod mounter;
mod port;
mod sync;
#[cfg(feature = "test-util")]
pub mod testsuite;
mod usage;

pub use copy::copy_tree;
pub use layered::{Backend, Layered};
pub use mount::{Mount, MountKind};
pub use mounter::{LocalMounter, MountGuard, forget_volatile};
pub use port::{
    ActiveKey, AnySnapshot, Change, Error, Form, Info, MergeInput, SnapshotKind, SnapshotName, Snapshotter,
    Usage,
};
pub use usage::usage_of_tree;
