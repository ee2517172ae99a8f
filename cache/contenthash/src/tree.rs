use std::collections::BTreeMap;
use std::ops::Bound;

use buildkit_util_cachedigest::Digest;
use buildkit_util_gotext::quoted_bytes;
use buildkit_util_system::Root;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::key;
use crate::record::{Hash, Kind, Record, Stored, text};
use crate::{Error, Result, scan};

/// Symbolic links that one path may lead through.
const MAX_LINKS: usize = 255;

/// Content digests of a tree, as far as they are known.
///
/// Nothing is looked at twice: the tree behind must not change unless the changes are told
/// ([`crate::TreeUpdater`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub(crate) records: BTreeMap<Vec<u8>, Record>,
    /// Whether something was learned since the tree was stored.
    pub(crate) dirty: bool,
}

impl Tree {
    /// A tree of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a stored tree.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let stored = Stored::decode(bytes).map_err(|_| Error::Damaged)?;
        Ok(Self { records: stored.records()?.into_iter().collect(), dirty: false })
    }

    /// The form to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        Stored::new(self.records.iter()).encode_to_vec()
    }

    /// Whether something was learned since the last call.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The digest of one path, which is hashed now if it is not known. `follow` says whether a
    /// symbolic link at its end is followed; those on the way are.
    pub(crate) fn checksum_path(&mut self, root: Option<&Root>, path: &[u8], follow: bool) -> Result<Digest> {
        let wanted = key::of_path(&key::clean(path));
        let (_, found) = self.follow(&wanted, follow)?;
        if let Some(Record { hash: Some(hash), .. }) = found {
            return Ok(Digest::from_sha256(*hash));
        }
        if self.needs_scan(&wanted, follow)? {
            scan::scan(self, root.ok_or(Error::NeedsFiles)?, &key::to_path(&wanted), follow)?;
        }
        let (found, record) = self.follow(&wanted, follow)?;
        if record.is_none() {
            return Err(Error::NotFound(quoted_bytes(&key::to_path(&wanted))));
        }
        let hash = self.hash(root, std::slice::from_ref(&found))?;
        Ok(Digest::from_sha256(hash[0]))
    }

    /// Resolves symbolic links in what is known. Gives the key that a key leads to, and its record.
    pub(crate) fn follow(&self, wanted: &[u8], follow: bool) -> Result<(Vec<u8>, Option<&Record>)> {
        self.follow_with(wanted, follow, |_, _| {})
    }

    fn follow_with<'a>(
        &'a self,
        wanted: &[u8],
        follow: bool,
        mut visit: impl FnMut(&[u8], Option<&'a Record>),
    ) -> Result<(Vec<u8>, Option<&'a Record>)> {
        if let Some(record) = self.records.get(wanted)
            && (!follow || record.kind != Kind::Symlink)
        {
            return Ok((wanted.to_vec(), Some(record)));
        }
        if wanted.is_empty() {
            return Ok((Vec::new(), None));
        }
        let mut rest = key::to_path(wanted);
        // Only matters for the last look-up.
        let is_header = rest.last() == Some(&b'/');
        if is_header {
            rest.pop();
        }
        let mut current: Vec<u8> = Vec::new();
        let mut record = None;
        let mut links = 0;
        while !rest.is_empty() {
            let (part, after) = match rest.iter().position(|&byte| byte == b'/') {
                Some(at) => (rest[..at].to_vec(), rest[at + 1..].to_vec()),
                None => (std::mem::take(&mut rest), Vec::new()),
            };
            rest = after;
            let next = key::join(&current, &part);
            record = self.records.get(&key::of_path(&next));
            visit(&next, record);
            let Some(link) = record.filter(|record| record.kind == Kind::Symlink) else {
                current = next;
                continue;
            };
            if !follow && rest.is_empty() {
                current = next;
                break;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::TooManyLinks);
            }
            rest = [&link.target, &b"/"[..], &rest].concat();
            if link.target.first() == Some(&b'/') {
                current.clear();
            }
        }
        if is_header {
            current.push(b'/');
            record = self.records.get(&key::of_path(&current));
            visit(&current, record);
        }
        Ok((key::of_path(&current), record))
    }

    /// Whether files must be looked at to know whether a key exists: it is not known, and it is in
    /// no directory that is.
    pub(crate) fn needs_scan(&self, wanted: &[u8], follow: bool) -> Result<bool> {
        let mut known: Vec<Vec<u8>> = Vec::new();
        let mut in_known = false;
        let (_, record) = self.follow_with(wanted, follow, |path, record| {
            let with_slash = [path, b"/"].concat();
            let includes = known.iter().any(|prefix| with_slash.starts_with(prefix));
            match record {
                Some(record) => {
                    in_known = record.kind != Kind::Symlink;
                    if !includes {
                        known.push(with_slash);
                    }
                }
                None => in_known = includes,
            }
        })?;
        Ok(record.is_none() && !in_known)
    }

    /// The hashes of some keys, which are there. What is not known is hashed in parallel.
    pub(crate) fn hash(&mut self, root: Option<&Root>, wanted: &[Vec<u8>]) -> Result<Vec<Hash>> {
        let mut missing: Vec<Vec<u8>> = Vec::new();
        for at in wanted {
            self.missing(at, &mut missing);
        }
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let hashes = scan::hash_all(root.ok_or(Error::NeedsFiles)?, &missing)?;
            for (at, hash) in missing.iter().zip(hashes) {
                self.learn(at, hash);
            }
        }
        wanted.iter().map(|at| self.hash_known(at)).collect()
    }

    fn learn(&mut self, at: &[u8], hash: Hash) {
        if let Some(record) = self.records.get_mut(at) {
            record.hash = Some(hash);
            self.dirty = true;
        }
    }

    /// Keys at or below `at` whose files must be hashed to know it.
    fn missing(&self, at: &[u8], missing: &mut Vec<Vec<u8>>) {
        let Some(record) = self.records.get(at) else { return };
        if record.hash.is_some() {
            return;
        }
        if record.kind != Kind::Dir {
            missing.push(at.to_vec());
            return;
        }
        self.walk(at, |key, record| {
            if record.hash.is_none() && record.kind != Kind::Dir {
                missing.push(key.to_vec());
            }
        });
    }

    /// Visits what is in a directory in order; directories whose hash is known are not entered.
    fn walk<'a>(&'a self, dir: &[u8], mut visit: impl FnMut(&'a [u8], &'a Record)) {
        let prefix = key::header(dir);
        let mut range = self.records.range::<Vec<u8>, _>((Bound::Included(&prefix), Bound::Unbounded));
        while let Some((key, record)) = range.next().filter(|(key, _)| key.starts_with(&prefix)) {
            visit(key, record);
            if record.kind == Kind::Dir && record.hash.is_some() {
                // Behind all that starts with `key\0`.
                let after = [key, &[1][..]].concat();
                range = self.records.range((Bound::Included(after), Bound::Unbounded));
            }
        }
    }

    /// The hash of a key all of whose files are hashed.
    fn hash_known(&mut self, at: &[u8]) -> Result<Hash> {
        let record = self.records.get(at).ok_or(Error::NeedsFiles)?;
        if let Some(hash) = record.hash {
            return Ok(hash);
        }
        if record.kind != Kind::Dir {
            return Err(Error::NeedsFiles);
        }
        // Directories that are open, outermost first. A stack and no recursion: trees can be deep.
        let mut open: Vec<(&[u8], Sha256)> = vec![(at, Sha256::new())];
        let mut done: Vec<(Vec<u8>, Hash)> = Vec::new();
        let mut broken = false;
        self.walk(at, |key, record| {
            while open.len() > 1 && !is_in(key, open[open.len() - 1].0) {
                close(&mut open, &mut done);
            }
            match (record.kind, record.hash) {
                (_, Some(hash)) => add(&mut open, key, &hash),
                (Kind::Dir, None) => open.push((key, Sha256::new())),
                _ => broken = true,
            }
        });
        if broken {
            return Err(Error::NeedsFiles);
        }
        while !open.is_empty() {
            close(&mut open, &mut done);
        }
        for (key, hash) in done {
            self.learn(&key, hash);
        }
        self.records.get(at).and_then(|record| record.hash).ok_or(Error::NeedsFiles)
    }
}

fn is_in(key: &[u8], dir: &[u8]) -> bool {
    key.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&0))
}

/// Adds an entry to the innermost directory.
fn add(open: &mut [(&[u8], Sha256)], key: &[u8], hash: &Hash) {
    if let Some((dir, sum)) = open.last_mut() {
        sum.update(key.strip_prefix(*dir).unwrap_or(key));
        sum.update(text(hash));
    }
}

/// Ends the innermost directory and adds it to the one around it.
fn close(open: &mut Vec<(&[u8], Sha256)>, done: &mut Vec<(Vec<u8>, Hash)>) {
    if let Some((dir, sum)) = open.pop() {
        let hash: Hash = sum.finalize().into();
        add(open, dir, &hash);
        done.push((dir.to_vec(), hash));
    }
}
