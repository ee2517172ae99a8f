//! The document in which builds tell each other what they have cached: layers, and keys that lead to them.
//!
//! [`Records`] is the plain form that is worked with, [`types`] the one that is written. A cache manifest has
//! the whole [`types::CacheConfig`] as its configuration; the configuration of an image has only the records,
//! whose layers are those of the image ([`Records::to_inline`], [`Records::from_inline`]).
//! Source of the format: `cache/remotecache/v1` and `cache/remotecache/inline` of upstream.
#![forbid(unsafe_code)]

mod inline;
mod parse;
mod records;
pub mod types;
mod write;

pub use parse::{MAX_CONFIG, ParseError};
pub use records::{Link, Record, RecordResult, Records};
