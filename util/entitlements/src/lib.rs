//! Names and checks the privileges that a build may be granted.
//!
//! A privilege needs two consents: the daemon [supports](Entitlements::supported) it by its
//! configuration, and the client of a build [is granted](Entitlements::granted) it by asking.
#![forbid(unsafe_code)]

mod device;
mod entitlements;

pub use device::DeviceGrant;
pub use entitlements::{Entitlement, Entitlements, Error};
