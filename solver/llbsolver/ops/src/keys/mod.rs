//! What the result of an op depends on, as digests. Pure: no I/O.
//!
//! The digests are facts of the protocol: caches that other daemons exported hit only when they are
//! the same, so they are made of Go's JSON of the wire messages (see `buildkit_util_gojson`), and
//! the tests hold them against recorded ones.

mod exec;
mod file;
mod select;

use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use buildkit_util_gojson::{Object, Value};

use crate::spec::{OpSpec, TypedVertex};

/// A part of a tree whose content an op uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Path from the root of the tree; empty is all of it.
    pub path: String,
    /// Whether the path is a pattern.
    pub wildcard: bool,
    /// Whether a symbolic link at the end of the path is followed.
    pub follow_links: bool,
    /// Only what matches one of these, when there are any.
    pub include: Vec<String>,
    /// Not what matches one of these.
    pub exclude: Vec<String>,
    /// Paths that must be there.
    pub required: Vec<String>,
}

impl Selector {
    pub(crate) fn has_wildcard_or_filters(&self) -> bool {
        self.wildcard || !self.include.is_empty() || !self.exclude.is_empty()
    }
}

/// How one input takes part in the key of an op.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputKey {
    /// Digest of the paths that the op uses.
    pub selector: Option<Digest>,
    /// The parts whose content can stand for the input; an empty list is all of it. `None`: it
    /// cannot.
    pub content: Option<Vec<Selector>>,
    /// Whether the input's files must be there before the op runs.
    pub prepare: bool,
}

/// The key of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMap {
    /// Digest of everything but the inputs.
    pub digest: Digest,
    /// What `digest` is the SHA-256 of.
    pub text: String,
    /// One entry per input.
    pub inputs: Vec<InputKey>,
}

/// Most bytes of a key's text that are kept with it.
const MAX_PREIMAGE: usize = 1024;

impl KeyMap {
    fn new(text: String, inputs: Vec<InputKey>) -> Self {
        Self { digest: Digest::sha256(&text), text, inputs }
    }

    /// The beginning of the text, for people who ask why something was not cached.
    pub fn preimage(&self) -> Arc<str> {
        self.text[..self.text.floor_char_boundary(MAX_PREIMAGE)].into()
    }
}

/// The key of an op; `None` for sources, whose keys come from [`source_key`].
pub fn key_map(vertex: &TypedVertex) -> Option<KeyMap> {
    let plain = |inputs| vec![InputKey::default(); inputs];
    let inputs = vertex.inputs;
    Some(match &vertex.op {
        OpSpec::Source(_) => return None,
        OpSpec::Exec(spec) => exec::key(spec, &vertex.platform, inputs),
        OpSpec::File(spec) => file::key(spec, inputs),
        // The name of the second field really is this.
        OpSpec::Build(spec) => KeyMap::new(tagged("build", "Exec", &spec.op), plain(inputs)),
        OpSpec::Merge(op) => KeyMap::new(tagged("merge", "Merge", op), plain(inputs)),
        OpSpec::Diff(spec) => KeyMap::new(tagged("diff", "Diff", &spec.op), plain(inputs)),
        OpSpec::Passthrough(spec) => {
            KeyMap::new(tagged("passthrough", "Passthrough", &spec.op), plain(inputs))
        }
    })
}

fn cache_type(kind: &str) -> String {
    format!("buildkit.{kind}.v0")
}

fn tagged<V: Value>(kind: &str, field: &str, op: &V) -> String {
    let mut text = String::new();
    Object::new(&mut text).field("Type", &cache_type(kind)).field(field, op);
    text
}

/// The key of a source from the key that the source gave. Keys that are good for one build only get
/// a digest that is never looked up.
pub fn source_key(key: &str) -> KeyMap {
    let map = KeyMap::new(format!("{}:{key}", cache_type("source")), Vec::new());
    if !key.starts_with("session:") {
        return map;
    }
    let random = format!("random:{}", map.digest.encoded());
    match Digest::parse(&random) {
        Ok(digest) => KeyMap { digest, ..map },
        // Hex is fine after any algorithm's name.
        Err(_) => map,
    }
}

/// Selectors by input.
type Selectors = BTreeMap<usize, Vec<Selector>>;
