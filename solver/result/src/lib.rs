//! A build result: several refs by platform with metadata.
#![forbid(unsafe_code)]

mod platforms;
mod result;

pub use platforms::{PLATFORMS_KEY, PlatformEntry, Platforms};
pub use result::{BuildResult, Refs};
