//! Reads overlay mounts and lists what an upper directory changes.
//!
//! [`Stack`] shows the layers of an overlay as one tree without mounting it, [`diff()`] compares two
//! such trees and skips what both have from the same layers, [`options`] reads mount options.
//! Sources: Documentation/filesystems/overlayfs.rst of the Linux kernel ("whiteouts and opaque
//! directories").
#![forbid(unsafe_code)]

mod diff;
pub mod options;
mod stack;

pub use diff::{Difference, Pairs, diff, pairs, same};
pub use stack::{Dir, Node, OPAQUE_XATTRS, Stack, is_opaque, is_overlay_xattr, is_whiteout};
