//! SOURCE_DATE_EPOCH: times that make builds repeatable.
//!
//! An epoch is seconds since 1970 (<https://reproducible-builds.org/specs/source-date-epoch/>), and comes
//! as an option of an exporter ([`from_attrs`]), as a build argument, or from the frontend with the result
//! ([`from_metadata`]). [`Timestamp`] is a time as image documents write it.
#![forbid(unsafe_code)]

mod epoch;
mod timestamp;

pub use epoch::{BUILD_ARG, EpochError, METADATA_KEY, OPTION, from_attrs, from_metadata};
pub use timestamp::{ParseTimestampError, Timestamp};
