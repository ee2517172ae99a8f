//! Rewraps a layer from one compression or tar dialect to another.
//!
//! [`convert()`] is one pass over a layer: it decompresses, sets times that are too late, compresses, and hashes
//! what was compressed. [`LayerWriter`] is its second half, for layers that are made here. [`EStargzWriter`] writes
//! layers whose files can be found and read one by one. All of this is synchronous and belongs on the blocking pool.
#![forbid(unsafe_code)]

mod convert;
mod error;
mod estargz;
mod footer;
mod layer;
mod rewrite;
mod toc;

pub use convert::{Conversion, convert};
pub use error::Error;
pub use estargz::{EStargz, EStargzWriter};
pub use footer::estargz_payload;
pub use layer::{Layer, LayerWriter};
pub use rewrite::rewrite_times;
