//! A build result: several refs by platform with metadata.
#![forbid(unsafe_code)]

mod attestation;
mod platforms;
mod result;

pub use attestation::{Attestation, AttestationKind, Subject, SubjectKind};
pub use platforms::{PLATFORMS_KEY, PlatformEntry, Platforms};
pub use result::{BuildResult, Refs};
