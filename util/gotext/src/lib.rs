//! Texts in the forms in which Go reads and writes values.
//!
//! Options of clients come in them, and error texts that clients compare hold them.
//!
//! ```
//! use buildkit_util_gotext::{csv_fields, parse_bool, parse_duration, quoted};
//!
//! assert_eq!(quoted("a \"b\"\n"), r#""a \"b\"\n""#);
//! assert_eq!(parse_bool("T"), Some(true));
//! assert_eq!(parse_duration("1.5s")?, 1_500_000_000);
//! assert_eq!(csv_fields("a,\"b,c\"")?, ["a", "b,c"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod boolean;
mod csv;
mod duration;
mod quote;

pub use boolean::{bool_error, parse_bool};
pub use csv::{CsvError, csv_fields};
pub use duration::{DurationError, format_duration, parse_duration};
pub use quote::{quoted, quoted_bytes};
