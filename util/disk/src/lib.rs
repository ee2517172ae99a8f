//! Reads capacity and free space of file systems.
#![forbid(unsafe_code)]

mod space;

pub use space::{Space, is_full, space};
