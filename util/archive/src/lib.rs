//! Layer archives: writes what changes between trees as tar, and applies such archives to a directory.
//!
//! [`write_layer`] compares two trees of layers and writes the difference with the bytes of the
//! original's overlay differ; [`apply_layer`] puts a layer into a directory that nothing in the layer can
//! lead out of. Below them are [`Reader`] and [`Writer`], which agree with Go's `archive/tar` on what an
//! archive means and how it is written. All of this is synchronous and belongs on the blocking pool.
//!
//! Formats: POSIX.1-2001 "pax Interchange Format", the GNU tar manual ("Basic Tar Format", "Storing Sparse
//! Files"), and the OCI image specification's `layer.md`.
#![forbid(unsafe_code)]

mod apply;
mod changes;
mod copyup;
mod encode;
mod error;
mod header;
mod layer;
mod parents;
mod parse;
mod pax;
mod place;
mod reader;
mod sparse;
mod whiteout;
mod windows;
mod writer;

pub use apply::{Applied, ApplyOptions, Whiteouts, apply_layer};
pub use error::{Error, Malformed};
pub use header::{Format, Header, Time, kind};
pub use layer::{WriteOptions, write_layer};
pub use parse::description_size;
pub use reader::{Chunk, Reader};
pub use writer::{Writer, encode_header};
