//! Sends, receives, filters and compares directory trees over the fsutil protocol.
//!
//! A [`FileSystem`] is a tree that can be walked and read: a directory ([`DirFs`]), part of one
//! ([`FilterFs`]), or several put together ([`SubDirFs`], [`MergeFs`], [`StaticFs`]). [`send()`] offers
//! one to a peer, and [`receive()`] makes a directory equal to what a peer offers and asks for the content
//! of changed files only.
//!
//! Nothing here depends on what carries the packets. File work is synchronous and runs on the
//! blocking pool; a peer is never trusted: whatever it sends, nothing outside of the destination is
//! read or written.
//!
//! Facts of the protocol: `tonistiigi/fsutil`, `receive.go`, `send.go`, `types/*.proto`.
#![forbid(unsafe_code)]

mod compose;
mod confine;
mod diff;
mod dirfs;
mod disk;
mod error;
mod filter;
mod followlinks;
mod fs;
pub mod mode;
mod receive;
mod send;
mod stat;
mod validate;

pub use buildkit_util_fsutil_types as types;
pub use compose::{Dir, MergeFs, StaticFs, SubDirFs};
pub use diff::Differ;
pub use dirfs::DirFs;
pub use disk::{Change, ContentHasher, ContentHook, FilterFn};
pub use error::Error;
pub use filter::{FilterFs, FilterOptions, MapFn, MapResult};
pub use followlinks::follow_links;
pub use fs::{Entry, FileSystem, Walk, walk_all};
pub use receive::{METADATA_FILE, MetadataFilter, ReceiveOptions, receive};
pub use send::{Progress, SendOptions, send};
pub use stat::{is_settable_xattr, stat_of};
pub use validate::{HardlinkCheck, HardlinkReset, Validator, compare_paths};
