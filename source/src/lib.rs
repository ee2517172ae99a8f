//! Port of sources: from an identifier to a cacheable snapshot.
#![forbid(unsafe_code)]

mod port;
mod registry;

pub use port::{Error, Identifier, Source, SourceContext, SourceInstance, SourceKey};
pub use registry::SourceRegistry;
