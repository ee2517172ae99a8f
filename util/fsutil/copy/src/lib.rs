//! Copies files and trees inside roots with wildcards, filters, owners and modes.
//!
//! [`copy()`] has the semantics of `cp -a` as builds need them: nothing outside of the two roots is
//! read or written whatever links they hold, devices and pipes are made anew and never opened, hard
//! links among the copied files stay links, and content is shared or copied by the kernel where the
//! file system can.
#![forbid(unsafe_code)]

mod attributes;
mod content;
mod copier;
mod dirs;
mod error;
mod files;
mod mode;
mod options;
mod wildcards;

pub use copier::copy;
pub use dirs::make_dirs;
pub use error::Error;
pub use mode::ModeChange;
pub use options::{ChownFn, CopyOptions, Owner, SharedFiles};
pub use wildcards::resolve_wildcards;
