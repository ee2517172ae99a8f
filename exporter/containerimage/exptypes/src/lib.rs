//! Options and metadata keys of image exporters.
//!
//! Options ([`option`]) come from the client, metadata ([`key`]) comes from the frontend with the result and
//! has bytes as values. What names a platform in both is its id, [`platform_id`].
#![forbid(unsafe_code)]

mod annotation;
mod keys;
mod platforms;

pub use annotation::{AnnotationKey, AnnotationKind};
pub use keys::{key, option};
pub use platforms::{
    MetadataError, ResultPlatform, config_platform, default_platform, of_platform, parse_platforms,
    platform_id,
};
