//! Port of decisions about sources that clients make, and its session service.
//!
//! For each source of a build the daemon asks the client's `PolicyVerifier` ([`check`]), which decides, or wants to
//! know more of the source first and is asked again then. A client implements [`PolicyVerifier`] and serves it over its
//! session ([`PolicyVerifierService`]). Why a source is denied travels as a detail of the build's error. Protocol:
//! upstream `sourcepolicy/policysession`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod denial;
mod port;
mod service;

pub use denial::{denial, denials};
pub use port::{PolicyAnswer, PolicyVerifier, check};
pub use service::PolicyVerifierService;
