//! The two JSON forms of LLB messages, and reading the first.
//!
//! That of Go's `encoding/json` is what cache keys hash, what error details carry, and what
//! `buildctl debug dump-llb` prints. Names are those of the protobuf fields, defaults are left out,
//! bytes are base64, enums are numbers. Oneofs sit in an object of their own. Writing is through
//! [`buildkit_util_gojson::Value`], which all messages implement.
//!
//! That of protobuf itself ([`Protobuf`]) is what frontends answer with when they are asked for a
//! graph. Names are in camel case, 64-bit numbers are texts, enums are names, and oneofs are members
//! of their message.

mod member;
mod messages;

use buildkit_util_gojson::Value;
use serde_json::Value as Json;

use crate::Error;
pub use member::{Dialect, Member};

/// Reads a message from its JSON.
///
/// # Errors
/// When the text is not JSON, or a member has another type than the field.
pub fn from_str<M: FromJson>(text: &str) -> Result<M, Error> {
    let value: Json = serde_json::from_str(text)
        .map_err(|error| Error::Json { message: M::NAME, reason: error.to_string() })?;
    from_value(&value)
}

/// Reads a message from JSON that is parsed already.
///
/// # Errors
/// When a member has another type than the field.
pub fn from_value<M: FromJson>(value: &Json) -> Result<M, Error> {
    M::read(value).map_err(|reason| Error::Json { message: M::NAME, reason })
}

/// A message that can be read from JSON.
pub trait FromJson: Member {
    /// Protobuf name, for errors.
    const NAME: &'static str;
}

/// A message to be written in protobuf's own JSON.
#[derive(Clone, Copy, Debug)]
pub struct Protobuf<'a, M>(pub &'a M);

impl<M: FromJson> Value for Protobuf<'_, M> {
    fn write_json(&self, out: &mut String) {
        self.0.write(out, Dialect::Protobuf);
    }
}

/// For fuzzing: reading arbitrary text keeps its promises.
///
/// # Panics
/// When a promise is broken.
#[cfg(any(test, feature = "test-util"))]
pub fn fuzz_json(text: &str) {
    let Ok(op) = from_str::<crate::Op>(text) else { return };
    let json = buildkit_util_gojson::to_string(&op);
    match from_str::<crate::Op>(&json) {
        Ok(again) => assert_eq!(again, op),
        Err(error) => panic!("What is written reads: {error}"),
    }
}
