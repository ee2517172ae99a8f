use std::collections::{BTreeSet, HashMap};

use buildkit_errdefs::BoxError;
use buildkit_util_cachedigest::Digest;
use buildkit_util_fsutil::{Change, ContentHasher, ContentHook, mode};
use buildkit_util_fsutil_types::Stat;
use buildkit_util_system::path;

use crate::record::{Kind, Record, to_hash};
use crate::{FileHash, Result, Tree, key};

/// Keeps a tree right while its files change, without looking at them: digests come with the
/// changes.
#[derive(Debug, Default)]
pub struct TreeUpdater {
    tree: Tree,
    /// Directories whose content changed.
    changed: BTreeSet<Vec<u8>>,
    /// Hard links to a path: its content may arrive after they do.
    links: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl TreeUpdater {
    /// Goes on from a tree.
    pub fn new(mut tree: Tree) -> Self {
        // The root itself is not among the changes. Its attributes do not count here.
        if !tree.records.contains_key(&b"\0"[..]) {
            let header = Record { hash: to_hash(&Digest::sha256(b"")), ..Record::new(Kind::Header) };
            tree.records.insert(vec![0], header);
            tree.records.insert(Vec::new(), Record::new(Kind::Dir));
        }
        Self { tree, changed: BTreeSet::new(), links: HashMap::new() }
    }

    /// Something, and all below it, is gone.
    pub fn remove(&mut self, path: &str) {
        let at = key::of_path(&key::clean(path.as_bytes()));
        self.remove_record(&at);
        self.mark_around(&at);
    }

    /// Something is new, or has other attributes or content. `digest` is that of its attributes and
    /// content (see [`FileHash`]); for hard links it does not matter.
    pub fn add(&mut self, stat: &Stat, digest: &Digest) {
        let path = key::clean(stat.path.as_bytes());
        let at = key::of_path(&path);
        if at.is_empty() {
            return;
        }
        let is_dir = mode::is_dir(stat.mode);
        let replaces_dir =
            self.tree.records.get(&at).is_some_and(|record| record.kind == Kind::Dir) && !is_dir;
        if replaces_dir {
            self.remove_record(&at);
        }
        self.mark_around(&at);
        let hash = to_hash(digest);
        if is_dir {
            // Its header counts in itself.
            self.changed.insert(at.clone());
            let header = Record { hash, ..Record::new(Kind::Header) };
            self.tree.records.insert(key::header(&at), header);
            self.tree.records.insert(at, Record::new(Kind::Dir));
            return;
        }
        let is_symlink = mode::is_symlink(stat.mode);
        let mut record = Record {
            hash,
            target: if is_symlink { stat.linkname.as_bytes().into() } else { Box::default() },
            ..Record::new(if is_symlink { Kind::Symlink } else { Kind::File })
        };
        if !is_symlink && !stat.linkname.is_empty() {
            let source = key::clean(path::join(["/", &stat.linkname]).as_bytes());
            if let Some(known) = self.tree.records.get(&key::of_path(&source)) {
                record = known.clone();
            }
            self.links.entry(source).or_default().push(at.clone());
        }
        if let Some(links) = self.links.remove(&path) {
            for link in links {
                self.mark_around(&link);
                self.tree.records.insert(link, record.clone());
            }
        }
        self.tree.records.insert(at, record);
    }

    /// The tree after the changes.
    pub fn finish(mut self) -> Tree {
        self.apply();
        self.tree
    }

    /// The tree after the changes so far; others may follow.
    pub fn apply(&mut self) -> &mut Tree {
        for mut at in std::mem::take(&mut self.changed) {
            loop {
                match self.tree.records.get_mut(&at) {
                    // What is around a directory that is not known is not known, or marked itself.
                    Some(Record { kind: Kind::Dir, hash: None, .. }) => break,
                    Some(record) if record.kind == Kind::Dir => record.hash = None,
                    _ => {}
                }
                match key::parent(&at) {
                    Some(parent) => at.truncate(parent.len()),
                    None => break,
                }
            }
        }
        self.tree.dirty = true;
        &mut self.tree
    }

    fn mark_around(&mut self, at: &[u8]) {
        if let Some(parent) = key::parent(at) {
            self.changed.insert(parent.to_vec());
        }
    }

    fn remove_record(&mut self, at: &[u8]) {
        let was_dir = self.tree.records.remove(at).is_some_and(|record| record.kind == Kind::Dir);
        if !was_dir {
            return;
        }
        // All that starts with `at\0`.
        let mut inside = self.tree.records.split_off(&key::header(at));
        let mut after = inside.split_off(&[at, &[1]].concat());
        self.tree.records.append(&mut after);
    }
}

impl ContentHasher for FileHash {
    fn update(&mut self, data: &[u8]) {
        FileHash::update(self, data);
    }

    fn finish(self: Box<Self>) -> Digest {
        FileHash::finish(*self)
    }
}

impl ContentHook for TreeUpdater {
    fn hasher(&mut self, stat: &Stat) -> std::result::Result<Box<dyn ContentHasher>, BoxError> {
        let hash: Result<FileHash> = FileHash::new(stat);
        Ok(Box::new(hash?))
    }

    fn change(&mut self, change: Change<'_>) -> std::result::Result<(), BoxError> {
        match change {
            Change::Delete { path } => self.remove(path),
            Change::Add { stat, digest } => self.add(stat, &digest),
        }
        Ok(())
    }
}
