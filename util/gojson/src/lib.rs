//! Writes JSON byte-identical to Go's encoding/json.
//!
//! Cache keys and error details are digests of, or travel as, the output of Go's `json.Marshal`, so
//! its escapes, number forms and the order of its maps are facts of the protocol. Field order is the
//! caller's: Go writes struct fields in the order of their declaration.
//!
//! ```
//! use buildkit_util_gojson::{Base64, Object};
//!
//! let mut out = String::new();
//! Object::new(&mut out).field("Type", "a<b").omit_empty("Skip", "").field("Data", &Base64(b"hi"));
//! assert_eq!(out, r#"{"Type":"a\u003cb","Data":"aGk="}"#);
//! ```
#![forbid(unsafe_code)]

mod indent;
mod number;
mod object;
mod string;
mod value;

pub use indent::indent;
pub use number::{Float, NotFinite};
pub use object::{Array, Object};
pub use string::{write_bytes, write_string};
pub use value::{Base64, GoString, Raw, Value, to_string};
