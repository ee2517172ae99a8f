//! Texts in the forms in which Go reads and writes values.
//!
//! Options of clients come in them, and error texts that clients compare hold them.
//!
//! ```
//! use buildkit_util_gotext::{csv_fields, parse_bool, quoted};
//!
//! assert_eq!(quoted("a \"b\"\n"), r#""a \"b\"\n""#);
//! assert_eq!(parse_bool("T"), Some(true));
//! assert_eq!(csv_fields("a,\"b,c\"")?, ["a", "b,c"]);
//! # Ok::<(), buildkit_util_gotext::CsvError>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod boolean;
mod csv;
mod quote;

pub use boolean::parse_bool;
pub use csv::{CsvError, csv_fields};
pub use quote::quoted;
