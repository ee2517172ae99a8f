//! Transfers directories and files between client and daemon over a session.
//!
//! The daemon pulls a directory that the client named with [`fs_sync`], sends a tree into a directory
//! of the client with [`copy_to_caller`] and one file with [`copy_file_writer`]. The client attaches
//! [`FsSyncProvider`] and [`FsSyncTarget`] to its session to serve these calls; a daemon reaches no
//! other files than those they were given.
//!
//! Facts of the protocol: upstream `session/filesync/filesync.go`, `diffcopy.go`.
#![forbid(unsafe_code)]

mod error;
mod headers;
mod provider;
mod pull;
mod push;
mod target;

pub use error::Error;
pub use headers::EXPORTER_ID_HEADER;
pub use provider::FsSyncProvider;
pub use pull::{FsSyncRequest, fs_sync};
pub use push::{FileWriter, copy_file_writer, copy_to_caller};
pub use target::{FileOutput, FsSyncTarget, OpenFile, Target};
