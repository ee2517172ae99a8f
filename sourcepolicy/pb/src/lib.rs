//! Wire types of source policies and the JSON that people write them in.
#![forbid(unsafe_code)]

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/sourcepolicy.rs");
}
mod json;

// All names are generated, so there is no list to keep.
pub use generated::*;
pub use json::{JsonError, from_json};
