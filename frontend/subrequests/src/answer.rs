use std::collections::BTreeMap;

use buildkit_util_gojson::{Value, indent, to_string};
use bytes::Bytes;

/// Keys of an answer.
pub mod key {
    /// The answer for programs.
    pub const JSON: &str = "result.json";
    /// The answer for people.
    pub const TEXT: &str = "result.txt";
    /// `0`, or `1` when a linter has something to say.
    pub const STATUS_CODE: &str = "result.statuscode";
    /// Version of the request's definition.
    pub const VERSION: &str = "version";
}

/// The answer of a request: metadata of a result that has no tree.
pub type Answer = BTreeMap<String, Bytes>;

/// An answer in JSON.
pub(crate) fn answer(json: &impl Value, version: &str) -> Answer {
    let json = indent(&to_string(json));
    [(key::JSON, json), (key::VERSION, version.to_owned())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Bytes::from(value)))
        .collect()
}

/// An answer in JSON and as a text.
pub(crate) fn answer_with_text(json: &impl Value, text: impl Into<Bytes>, version: &str) -> Answer {
    let mut answer = answer(json, version);
    answer.insert(key::TEXT.to_owned(), text.into());
    answer
}
