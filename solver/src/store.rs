use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_util_cachedigest::{Digest, Digester};

use crate::{KeyId, OutputIndex, ResultId, StoreError, root_key};

/// A way from a parent to a key: what the child does with the parent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Which input of the child the parent is.
    pub input: u32,
    /// Digest of the child's cache map.
    pub digest: Digest,
    /// Output of the child.
    pub output: OutputIndex,
    /// What the child uses of the parent, when not all.
    pub selector: Option<Digest>,
}

/// A parent in a question or a save.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parent {
    /// The key.
    pub key: KeyId,
    /// What the child uses of it, when not all.
    pub selector: Option<Digest>,
}

/// Asks for the keys that some parents lead to.
#[derive(Clone, Debug)]
pub struct LinkQuery {
    /// Which input of the child the parents are.
    pub input: u32,
    /// Digest of the child's cache map.
    pub digest: Digest,
    /// Output of the child.
    pub output: OutputIndex,
    /// The parents.
    pub parents: Vec<Parent>,
}

/// A result that hangs on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where the result is.
    pub result: ResultId,
    /// When it was made.
    pub created_at: SystemTime,
    /// Of several records the highest priority is loaded first, then the newest.
    pub priority: i32,
}

/// A key to be saved.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Digest of the cache map.
    pub digest: Digest,
    /// Output of the vertex.
    pub output: OutputIndex,
    /// Per input every parent that leads to the key. Empty for a vertex without inputs.
    pub parents: Vec<Vec<Parent>>,
    /// What the key was made of, in short form.
    pub preimage: Option<Arc<str>>,
}

/// Keys that can be asked for: those of a [`CacheKeyStore`], or of a cache elsewhere, which is only looked into.
///
/// The scheduler calls from its owner task and waits, so every call must be answered **from memory**. An error
/// is taken for a miss; it costs cache hits and never fails a build. Calls for keys that do not exist are not
/// errors.
pub trait KeySource: Send + Sync + 'static {
    /// For each query and each of its parents, in order, the keys that the link leads to, in a
    /// stable order.
    ///
    /// # Errors
    /// When the store cannot answer; the caller takes all queries of the call for misses.
    fn query(&self, queries: &[LinkQuery]) -> Result<Vec<Vec<Vec<KeyId>>>, StoreError>;

    /// Whether a key has a record or leads to a key.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn exists(&self, key: &KeyId) -> Result<bool, StoreError>;

    /// The records of a key, in any order.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn records(&self, key: &KeyId) -> Result<Vec<Record>, StoreError>;

    /// All links that lead to a key, with their parents.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn backlinks(&self, key: &KeyId) -> Result<Vec<(KeyId, Link)>, StoreError>;
}

/// The graph of keys: port of its stores.
///
/// A key exists while it has a record or a link to another key. Links lead from a parent to a child;
/// a child with several inputs has links from parents of each of them, and an edge matches it when
/// each of its inputs does. Two stores never share ids but those of [`root_key`].
///
/// An implementation with a database keeps an index in memory and writes behind. What
/// [`release`](Self::release) is called for must no longer be found, and keys that lead nowhere any more may
/// vanish at any time.
pub trait CacheKeyStore: KeySource {
    /// Adds a link; one that exists stays as it is.
    ///
    /// # Errors
    /// When the store takes nothing; the link is then not there.
    fn add_link(&self, parent: &KeyId, link: &Link, key: &KeyId) -> Result<(), StoreError>;

    /// Hangs a record on a key. A record of the same result replaces the old one.
    ///
    /// # Errors
    /// When the store takes nothing.
    fn add_record(&self, key: &KeyId, record: &Record) -> Result<(), StoreError>;

    /// Keeps what a key that exists was made of.
    ///
    /// # Errors
    /// When the store takes nothing.
    fn set_preimage(&self, key: &KeyId, preimage: &str) -> Result<(), StoreError>;

    /// What a key was made of, when known.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn preimage(&self, key: &KeyId) -> Result<Option<Arc<str>>, StoreError>;

    /// Forgets a result with all its records, and the keys that are of no use without it.
    ///
    /// # Errors
    /// When the store takes nothing.
    fn release(&self, result: &ResultId) -> Result<(), StoreError>;

    /// The keys that a result hangs on.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn keys_of(&self, result: &ResultId) -> Result<Vec<KeyId>, StoreError>;

    /// All results, for finding those whose data is gone.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn results(&self) -> Result<Vec<ResultId>, StoreError>;
}

/// Finds the key that some parents lead to, or makes it, and links it with all of them.
///
/// # Errors
/// Those of the store; the id is derived from the parents then, see [`derived_key`].
pub fn ensure_key(store: &dyn CacheKeyStore, new: &NewKey) -> Result<KeyId, StoreError> {
    if new.parents.is_empty() {
        return Ok(root_key(&new.digest, Some(new.output)));
    }
    let queries: Vec<LinkQuery> = (0u32..)
        .zip(&new.parents)
        .map(|(input, parents)| LinkQuery {
            input,
            digest: new.digest.clone(),
            output: new.output,
            parents: parents.clone(),
        })
        .collect();
    let answers = store.query(&queries)?;
    let mut common: Option<BTreeSet<&KeyId>> = None;
    for answer in &answers {
        let keys: BTreeSet<&KeyId> = answer.iter().flatten().collect();
        common = Some(match common {
            None => keys,
            Some(old) => old.intersection(&keys).copied().collect(),
        });
    }
    let found = common.and_then(|keys| keys.first().copied().cloned());
    let id = found.unwrap_or_else(|| derived_key(new));
    for (query, answer) in queries.iter().zip(&answers) {
        for (parent, keys) in query.parents.iter().zip(answer) {
            if !keys.contains(&id) {
                let link = Link {
                    input: query.input,
                    digest: query.digest.clone(),
                    output: query.output,
                    selector: parent.selector.clone(),
                };
                store.add_link(&parent.key, &link, &id)?;
            }
        }
    }
    Ok(id)
}

/// Finds or makes the key of a result, with its record and preimage.
///
/// # Errors
/// Those of the store.
pub fn save_record(store: &dyn CacheKeyStore, new: &NewKey, record: &Record) -> Result<KeyId, StoreError> {
    let id = ensure_key(store, new)?;
    store.add_record(&id, record)?;
    if let Some(preimage) = &new.preimage {
        store.set_preimage(&id, preimage)?;
    }
    Ok(id)
}

/// Id of a key that no store knows yet: the same for the same parents.
pub fn derived_key(new: &NewKey) -> KeyId {
    if new.parents.is_empty() {
        return root_key(&new.digest, Some(new.output));
    }
    let mut digester = Digester::new();
    digester.update(format!("{}@{}", new.digest, new.output));
    for parents in &new.parents {
        digester.update(b"\n");
        let sorted: BTreeSet<&Parent> = parents.iter().collect();
        for parent in sorted {
            digester.update(b"\0");
            digester.update(parent.key.0.as_str());
            if let Some(selector) = &parent.selector {
                digester.update(b"\x01");
                digester.update(selector.as_str());
            }
        }
    }
    KeyId(digester.finish())
}
