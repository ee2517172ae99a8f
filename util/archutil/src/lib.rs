//! Platforms: their names, and which this machine can run.
//!
//! It can by itself, by what its kernel runs of related architectures, and by the emulators that are
//! registered with `binfmt_misc`. Nothing is executed for that: the kernel's list says what it would
//! start.
#![forbid(unsafe_code)]

mod binfmt;
mod detect;
mod names;
mod native;
mod support;

pub use detect::{Platform, supported_platforms};
pub use names::{normalized_os, normalized_processor};
pub use support::{Support, support};
