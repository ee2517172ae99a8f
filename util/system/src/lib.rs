//! System helpers: root-confined path access, xattrs, mounts and default paths.
//!
//! [`Root`] is the one way to touch a file tree that somebody else made: an image, a snapshot, a
//! context. No path, symbolic link or concurrent rename leads out of it, and no special file in it
//! blocks or is opened. [`path`] has the path arithmetic that the wire formats assume.
#![forbid(unsafe_code)]

mod capability;
mod env;
mod error;
mod handle;
pub mod mount;
mod remove;
mod root;
mod sealed;
mod stat;
mod user;
mod walk;

pub use buildkit_util_gopath as path;
pub use capability::CAPABILITIES;
pub use env::{DEFAULT_PATH_UNIX, DEFAULT_PATH_WINDOWS, default_path_env, in_user_namespace};
pub use error::Error;
pub use handle::Handle;
pub use root::{CreateFile, Root};
pub use sealed::{is_sealed, sealed_copy};
pub use stat::{DirEntry, FileKind, FileStat, Timestamp};
pub use user::{User, UserError, lookup_group, lookup_user};
