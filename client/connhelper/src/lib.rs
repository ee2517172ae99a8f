//! Connects to a daemon by address scheme.
//!
//! [`Address`] is what `--addr` takes; [`Address::connect`] opens a byte stream to the daemon, over a
//! socket or through a program that runs `buildctl dial-stdio` where the daemon is.
#![forbid(unsafe_code)]

mod address;
mod error;
mod process;
mod tls;

pub use address::{Address, BoxStream, Stream};
pub use error::{Error, Result};
pub use tls::Tls;
