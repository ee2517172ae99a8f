//! Performs file operations on mounted refs, confined to their roots.
//!
//! All calls block: run them on the blocking pool. Paths in errors are paths in the tree.
#![forbid(unsafe_code)]

mod actions;
mod archive;
mod copy;
mod error;
mod owner;

pub use actions::{mkdir, mkfile, rm, symlink};
pub use archive::unpack;
pub use buildkit_util_compression::Detected;
pub use buildkit_util_fsutil_copy::{Owner, SharedFiles};
pub use copy::{copy, copy_or_link};
pub use error::{Error, Result};
pub use owner::resolve_owner;
