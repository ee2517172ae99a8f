//! Detects the platforms that this machine can run.
//!
//! By itself, by what its kernel runs of related architectures, and by the emulators that are
//! registered with `binfmt_misc`. Nothing is executed for that: the kernel's list says what it would
//! start.
#![forbid(unsafe_code)]

mod binfmt;
mod detect;
mod native;
mod support;

pub use detect::{Platform, supported_platforms};
pub use support::{Support, support};
