//! Compresses and decompresses layers as streams, on all cores with the same output.
//!
//! [`Encoder`] is a writer: what goes in comes out compressed. What comes out depends on the kind, the
//! level and the content, never on the number of processors or on how the content was cut into writes.
//! [`decoder`] reads all that images are found to be compressed with. Nothing here allocates what a stream
//! asks for without a limit.
#![forbid(unsafe_code)]

mod codes;
mod decode;
mod deflate;
mod encode;
mod gzip;
mod kind;
mod members;
mod pool;

pub use decode::{Detected, Limits, decoder, detect, limited_decoder};
pub use encode::Encoder;
pub use kind::{Compression, Config, ParseError};
pub use members::GzipMembers;
