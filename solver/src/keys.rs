use std::fmt;
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;

use crate::{OutputIndex, VertexId};

/// Id of a key in a store.
///
/// Keys without parents have the id that upstream gives them, so that it is the same in every
/// store: see [`root_key`]. Others have an id that the store of their first save derived.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub Digest);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Id of a key without parents: that of an edge without inputs, or of content when `output` is
/// `None` (it counts as output −1). Digests of the algorithm `random` stay themselves: they never
/// match anything of another build.
///
/// Source of the format: `rootKey` of upstream's `solver/cachemanager.go`; remote caches show it.
pub fn root_key(digest: &Digest, output: Option<OutputIndex>) -> KeyId {
    if digest.algorithm() == "random" {
        return KeyId(digest.clone());
    }
    let output = output.map_or(-1, i64::from);
    KeyId(Digest::sha256(format!("{digest}@{output}")))
}

/// A parent of a key with what is used of it.
#[derive(Clone, Debug)]
pub struct KeyDep {
    /// The parent.
    pub key: ExportableKey,
    /// What the child uses of it, when not all. Content keys have none.
    pub selector: Option<Digest>,
}

/// What a key is made of in one build. Cheap to clone.
#[derive(Clone)]
pub struct ExportableKey(Arc<KeyNode>);

/// The parts of an [`ExportableKey`].
pub struct KeyNode {
    /// Its id in the store.
    pub id: KeyId,
    /// Digest of the cache map, or of the content.
    pub digest: Digest,
    /// Output of the vertex; `None` for a content key.
    pub output: Option<OutputIndex>,
    /// The vertex that has the key in this build; none for a content key.
    pub vertex: Option<VertexId>,
    /// Whether the records of the key are exported; `None` leaves it to the exporter.
    pub export: Option<bool>,
    /// Per input all parents that lead to the key.
    pub deps: Vec<Vec<KeyDep>>,
}

impl ExportableKey {
    pub(crate) fn new(node: KeyNode) -> Self {
        Self(Arc::new(node))
    }

    /// The key of some content.
    pub(crate) fn content(digest: Digest) -> Self {
        let id = root_key(&digest, None);
        Self::new(KeyNode { id, digest, output: None, vertex: None, export: None, deps: Vec::new() })
    }

    /// Its id in the store.
    pub fn id(&self) -> &KeyId {
        &self.0.id
    }

    /// An address that is the same for clones only, to visit shared keys once.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

impl std::ops::Deref for ExportableKey {
    type Target = KeyNode;

    fn deref(&self) -> &KeyNode {
        &self.0
    }
}

impl fmt::Debug for ExportableKey {
    /// Shows one level only: chains are as deep as builds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parents: Vec<Vec<&KeyId>> =
            self.0.deps.iter().map(|deps| deps.iter().map(|dep| dep.key.id()).collect()).collect();
        f.debug_struct("ExportableKey")
            .field("id", &self.0.id)
            .field("digest", &self.0.digest)
            .field("output", &self.0.output)
            .field("parents", &parents)
            .finish()
    }
}

impl Drop for KeyNode {
    /// Takes the chain apart in a loop, so that the depth of a build does not become stack depth.
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.deps);
        while let Some(deps) = pending.pop() {
            for dep in deps {
                if let Some(mut node) = Arc::into_inner(dep.key.0) {
                    pending.append(&mut node.deps);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keys_have_upstreams_form() {
        let digest = Digest::sha256(b"x");
        assert_eq!(root_key(&digest, Some(0)).0, Digest::sha256(format!("{digest}@0")));
        assert_eq!(root_key(&digest, None).0, Digest::sha256(format!("{digest}@-1")));
        let random = Digest::from_hash("random", &[7; 32]);
        assert_eq!(root_key(&random, Some(0)).0, random);
    }

    #[test]
    fn long_chains_are_dropped_without_recursion() {
        let mut key = ExportableKey::content(Digest::sha256(b"0"));
        for _ in 0..200_000 {
            let dep = KeyDep { key: key.clone(), selector: None };
            key = ExportableKey::new(KeyNode {
                id: key.id().clone(),
                digest: key.digest.clone(),
                output: Some(0),
                vertex: None,
                export: None,
                deps: vec![vec![dep]],
            });
        }
        drop(key);
    }
}
