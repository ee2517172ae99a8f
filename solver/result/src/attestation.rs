use std::collections::BTreeMap;

use bytes::Bytes;

/// What form a statement about a tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttestationKind {
    /// A statement of the in-toto specification.
    InToto,
    /// A directory of statements, each of its own kind.
    Bundle,
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// The tree of the result that it belongs to.
    Tree,
    /// What the digests say.
    Raw,
}

/// One thing that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What it is.
    pub kind: SubjectKind,
    /// Its name; may be empty.
    pub name: String,
    /// Its digests.
    pub digests: Vec<String>,
}

/// A statement about a tree of a result, such as what is in it or how it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation<R> {
    /// Its form.
    pub kind: AttestationKind,
    /// More about it, for exporters.
    pub metadata: BTreeMap<String, Bytes>,
    /// The tree that it is in; `None` is an empty one.
    pub reference: Option<R>,
    /// Where in that tree it is.
    pub path: String,
    /// Type of its predicate, a URI.
    pub predicate_type: String,
    /// What it is about; nothing is the tree of the result.
    pub subjects: Vec<Subject>,
}

impl<R> Attestation<R> {
    /// Replaces the ref.
    ///
    /// # Errors
    /// That of `map`.
    pub fn try_map<S, E>(&self, map: impl FnOnce(&R) -> Result<S, E>) -> Result<Attestation<S>, E> {
        Ok(Attestation {
            kind: self.kind,
            metadata: self.metadata.clone(),
            reference: self.reference.as_ref().map(map).transpose()?,
            path: self.path.clone(),
            predicate_type: self.predicate_type.clone(),
            subjects: self.subjects.clone(),
        })
    }
}
