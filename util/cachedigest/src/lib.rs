//! Content digests and the preimages that explain cache keys.
#![forbid(unsafe_code)]

mod background;
mod digest;
mod reader;

pub use background::BackgroundDigester;
pub use digest::{Digest, Digester, ParseDigestError};
pub use reader::HashingReader;
