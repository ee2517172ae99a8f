//! Content digests and the preimages that explain cache keys.
#![forbid(unsafe_code)]

mod digest;

pub use digest::{Digest, Digester, ParseDigestError};
