use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Error, Usage};

/// What is known of one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Number of its directory.
    pub(crate) id: u64,
    pub(crate) parent: Option<String>,
    pub(crate) created: SystemTime,
    pub(crate) usage: Usage,
    /// Snapshots that have it as parent.
    pub(crate) children: u32,
    /// Being made, committed or removed: nobody else may change it.
    pub(crate) busy: bool,
    /// A directory that stands for this snapshot and some of its parents in mounts.
    pub(crate) flat: Option<Flat>,
    /// Such a directory is being made.
    pub(crate) flattening: bool,
    /// What it holds is on disk, whatever happens to the power.
    pub(crate) synced: bool,
    /// Files of it may be files of other snapshots under other names.
    pub(crate) entwined: bool,
}

/// One directory in the place of several layers.
#[derive(Clone, Debug)]
pub(crate) struct Flat {
    /// Number of the directory.
    pub(crate) id: u64,
    /// The snapshot that it lies over.
    pub(crate) below: Option<String>,
    /// About how many files it has.
    pub(crate) inodes: u64,
}

/// A layer of a mount.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Number of the directory.
    pub(crate) id: u64,
    /// About how many files it has.
    pub(crate) inodes: u64,
    /// The snapshot that it lies over.
    pub(crate) below: Option<String>,
}

/// All snapshots. Pure: knows no file system.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) active: HashMap<String, Record>,
    pub(crate) committed: HashMap<String, Record>,
    next: u64,
    /// The start of the machine since which steps were taken.
    boot: Option<String>,
}

/// One step of the history that the journal keeps.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Prepare {
        key: String,
        id: u64,
        parent: Option<String>,
        created: u64,
    },
    Commit {
        key: String,
        name: String,
        size: u64,
        inodes: u64,
    },
    /// An active snapshot without a parent got one, and another directory.
    Rebase {
        key: String,
        id: u64,
        parent: String,
    },
    Discard {
        key: String,
    },
    Remove {
        name: String,
    },
    Flatten {
        name: String,
        id: u64,
        below: Option<String>,
        inodes: u64,
    },
    /// The steps that follow were taken since the machine was started with this id.
    Boot {
        id: String,
    },
    /// What committed snapshots with these directories hold is on disk.
    Synced {
        ids: Vec<u64>,
    },
    /// Snapshots with these directories may have files in common with others under other names.
    Entwine {
        ids: Vec<u64>,
    },
}

impl Index {
    pub(crate) fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds an active snapshot that is still being made.
    pub(crate) fn prepare(
        &mut self,
        key: &str,
        parent: Option<&str>,
        created: SystemTime,
    ) -> Result<u64, Error> {
        if self.active.contains_key(key) {
            return Err(Error::AlreadyExists(key.to_owned()));
        }
        if let Some(parent) = parent {
            let record = self.idle_committed(parent)?;
            record.children += 1;
        }
        let id = self.next_id();
        let record = Record {
            id,
            parent: parent.map(str::to_owned),
            created,
            usage: Usage::default(),
            children: 0,
            busy: true,
            flat: None,
            flattening: false,
            synced: false,
            entwined: false,
        };
        self.active.insert(key.to_owned(), record);
        Ok(id)
    }

    /// An active snapshot that nobody else changes, now marked as being changed.
    pub(crate) fn claim_active(&mut self, key: &str) -> Result<Record, Error> {
        let record = self.active.get_mut(key).ok_or_else(|| Error::NotFound(key.to_owned()))?;
        if std::mem::replace(&mut record.busy, true) {
            return Err(busy(key));
        }
        Ok(record.clone())
    }

    /// Gives an active snapshot a parent and the number of another directory: those of children are larger
    /// than those of their parents.
    pub(crate) fn rebase(&mut self, key: &str, id: u64, parent: &str) -> Result<(), Error> {
        match self.active.get(key) {
            None => return Err(Error::NotFound(key.to_owned())),
            Some(record) if record.parent.is_some() => {
                return Err(Error::Precondition {
                    name: key.to_owned(),
                    reason: "it has a parent already".to_owned(),
                });
            }
            Some(_) => self.idle_committed(parent)?.children += 1,
        }
        if let Some(record) = self.active.get_mut(key) {
            (record.id, record.parent) = (id, Some(parent.to_owned()));
        }
        Ok(())
    }

    /// Takes a new parent back.
    pub(crate) fn unrebase(&mut self, key: &str, id: u64) {
        let Some(record) = self.active.get_mut(key) else { return };
        record.id = id;
        let parent = record.parent.take();
        if let Some(parent) = parent.and_then(|name| self.committed.get_mut(&name)) {
            parent.children = parent.children.saturating_sub(1);
        }
    }

    pub(crate) fn release_active(&mut self, key: &str) {
        if let Some(record) = self.active.get_mut(key) {
            record.busy = false;
        }
    }

    fn idle_committed(&mut self, name: &str) -> Result<&mut Record, Error> {
        match self.committed.get_mut(name) {
            Some(record) if record.busy => Err(busy(name)),
            Some(record) => Ok(record),
            None => Err(Error::NotFound(name.to_owned())),
        }
    }

    /// A committed snapshot without children, now marked as being removed.
    pub(crate) fn claim_committed(&mut self, name: &str) -> Result<Record, Error> {
        let record = self.idle_committed(name)?;
        if record.children > 0 {
            return Err(Error::Precondition {
                name: name.to_owned(),
                reason: format!("it is the parent of {} others", record.children),
            });
        }
        record.busy = true;
        Ok(record.clone())
    }

    pub(crate) fn commit(&mut self, key: &str, name: &str, usage: Usage) -> Result<(), Error> {
        if self.committed.contains_key(name) {
            return Err(Error::AlreadyExists(name.to_owned()));
        }
        let mut record = self.active.remove(key).ok_or_else(|| Error::NotFound(key.to_owned()))?;
        record.usage = usage;
        record.busy = false;
        self.committed.insert(name.to_owned(), record);
        Ok(())
    }

    /// Takes a commit back that could not be told to the journal.
    pub(crate) fn uncommit(&mut self, name: &str, key: &str) {
        if let Some(mut record) = self.committed.remove(name) {
            record.busy = true;
            self.active.insert(key.to_owned(), record);
        }
    }

    pub(crate) fn discard(&mut self, key: &str) -> Option<Record> {
        let record = self.active.remove(key)?;
        self.orphan(&record);
        Some(record)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Record> {
        let record = self.committed.remove(name)?;
        self.orphan(&record);
        Some(record)
    }

    fn orphan(&mut self, record: &Record) {
        if let Some(parent) = record.parent.as_ref().and_then(|name| self.committed.get_mut(name)) {
            parent.children = parent.children.saturating_sub(1);
        }
    }

    /// Numbers of the directories below a snapshot, its own first.
    pub(crate) fn chain(&self, record: &Record) -> Result<Vec<u64>, Error> {
        let mut chain = vec![record.id];
        let mut parent = &record.parent;
        while let Some(name) = parent {
            let record = self.committed.get(name).ok_or_else(|| Error::NotFound(name.clone()))?;
            chain.push(record.id);
            parent = &record.parent;
        }
        Ok(chain)
    }

    /// Takes a step of the journal. Steps that make no sense (after a power loss) are passed over.
    fn replay(&mut self, step: Step) {
        match step {
            Step::Prepare { key, id, parent, created } => {
                if let Some(parent) = parent.as_ref() {
                    let Some(record) = self.committed.get_mut(parent) else { return };
                    record.children += 1;
                }
                let created = UNIX_EPOCH + Duration::from_millis(created);
                let record = Record {
                    id,
                    parent,
                    created,
                    usage: Usage::default(),
                    children: 0,
                    busy: false,
                    flat: None,
                    flattening: false,
                    synced: false,
                    entwined: false,
                };
                self.next = self.next.max(id);
                self.discard(&key);
                self.active.insert(key, record);
            }
            Step::Commit { key, name, size, inodes } => {
                // A name that is taken: the record that owns it wins.
                if self.commit(&key, &name, Usage { size, inodes }).is_err() {
                    self.discard(&key);
                }
            }
            Step::Rebase { key, id, parent } => {
                self.next = self.next.max(id);
                if self.rebase(&key, id, &parent).is_err() {
                    self.discard(&key);
                }
            }
            Step::Discard { key } => drop(self.discard(&key)),
            Step::Remove { name } => drop(self.remove(&name)),
            Step::Flatten { name, id, below, inodes } => {
                self.next = self.next.max(id);
                if let Some(record) = self.committed.get_mut(&name) {
                    record.flat = Some(Flat { id, below, inodes });
                }
            }
            Step::Boot { id } => self.boot = Some(id),
            Step::Synced { ids } => self.mark_synced(&ids),
            Step::Entwine { ids } => self.mark_entwined(&ids),
        }
    }

    pub(crate) fn mark_entwined(&mut self, ids: &[u64]) {
        let all = self.active.values_mut().chain(self.committed.values_mut());
        for record in all.filter(|record| ids.contains(&record.id)) {
            record.entwined = true;
        }
    }

    /// Whether a snapshot, or one between it and the snapshot `below`, may have files in common with
    /// others under other names.
    pub(crate) fn is_entwined(&self, name: Option<&str>, below: Option<&str>) -> bool {
        let mut at = name;
        while let Some(record) =
            at.filter(|name| Some(*name) != below).and_then(|name| self.committed.get(name))
        {
            if record.entwined {
                return true;
            }
            at = record.parent.as_deref();
        }
        false
    }

    /// Directories of committed snapshots that may be lost with the power.
    pub(crate) fn unsynced(&self) -> Vec<u64> {
        self.committed.values().filter(|record| !record.synced).map(|record| record.id).collect()
    }

    pub(crate) fn mark_synced(&mut self, ids: &[u64]) {
        let ids: std::collections::HashSet<u64> = ids.iter().copied().collect();
        for record in self.committed.values_mut().filter(|record| ids.contains(&record.id)) {
            record.synced = true;
        }
    }

    /// Forgets what may be damaged since the machine went down without notice: what was not on disk
    /// for sure. Does nothing if the machine is still up.
    fn survive(&mut self, boot: Option<&str>) -> usize {
        let before = self.active.len() + self.committed.len();
        if let (Some(old), Some(new)) = (&self.boot, boot)
            && old != new
        {
            self.active.clear();
            self.committed.retain(|_, record| record.synced);
        }
        self.boot = boot.map(str::to_owned);
        before - self.active.len() - self.committed.len()
    }

    /// The layers that a mount of a committed snapshot is made of, its own first.
    pub(crate) fn pieces(&self, name: Option<&str>) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        let mut at = name;
        while let Some(name) = at {
            let record = self.committed.get(name).ok_or_else(|| Error::NotFound(name.to_owned()))?;
            let piece = match &record.flat {
                Some(flat) => Piece { id: flat.id, inodes: flat.inodes, below: flat.below.clone() },
                None => Piece { id: record.id, inodes: record.usage.inodes, below: record.parent.clone() },
            };
            at = match &record.flat {
                Some(flat) => flat.below.as_deref(),
                None => record.parent.as_deref(),
            };
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// Removes snapshots whose directory is gone, and those on top of them.
    pub(crate) fn retain_existing(&mut self, exists: impl Fn(u64) -> bool) -> usize {
        let before = self.active.len() + self.committed.len();
        self.active.retain(|_, record| exists(record.id));
        self.committed.retain(|_, record| exists(record.id));
        loop {
            let names: std::collections::HashSet<String> = self.committed.keys().cloned().collect();
            let alive = |record: &Record| record.parent.as_ref().is_none_or(|parent| names.contains(parent));
            let count = self.active.len() + self.committed.len();
            self.active.retain(|_, record| alive(record));
            self.committed.retain(|_, record| alive(record));
            if count == self.active.len() + self.committed.len() {
                break;
            }
        }
        for record in self.committed.values_mut() {
            record.flat = record.flat.take().filter(|flat| exists(flat.id));
        }
        let mut children: HashMap<String, u32> = HashMap::new();
        for record in self.active.values().chain(self.committed.values()) {
            if let Some(parent) = &record.parent {
                *children.entry(parent.clone()).or_default() += 1;
            }
        }
        for (name, record) in &mut self.committed {
            record.children = children.get(name).copied().unwrap_or(0);
        }
        before - self.active.len() - self.committed.len()
    }

    /// The shortest history that leads here, parents first.
    fn history(&self) -> Vec<Step> {
        let mut committed: Vec<_> = self.committed.iter().collect();
        // A parent has a smaller number: it was committed before its child was prepared, and
        // prepared before it was committed.
        committed.sort_by_key(|(_, record)| record.id);
        let mut steps = Vec::with_capacity(3 * committed.len() + self.active.len());
        steps.extend(self.boot.clone().map(|id| Step::Boot { id }));
        let prepare = |key: &str, record: &Record| Step::Prepare {
            key: key.to_owned(),
            id: record.id,
            parent: record.parent.clone(),
            created: millis(record.created),
        };
        for (name, record) in &committed {
            // The empty key is never used by a caller for long: it is committed in the next step.
            steps.push(prepare("", record));
            let Usage { size, inodes } = record.usage;
            steps.push(Step::Commit { key: String::new(), name: (*name).clone(), size, inodes });
            if let Some(Flat { id, below, inodes }) = record.flat.clone() {
                steps.push(Step::Flatten { name: (*name).clone(), id, below, inodes });
            }
        }
        let ids = committed.iter().filter(|(_, record)| record.synced).map(|(_, record)| record.id).collect();
        steps.push(Step::Synced { ids });
        // Also those that are being made, committed or removed: the step that ends that follows.
        steps.extend(self.active.iter().map(|(key, record)| prepare(key, record)));
        let records = self.committed.values().chain(self.active.values());
        let ids: Vec<u64> = records.filter(|record| record.entwined).map(|record| record.id).collect();
        if !ids.is_empty() {
            steps.push(Step::Entwine { ids });
        }
        steps
    }
}

fn busy(name: &str) -> Error {
    Error::Precondition { name: name.to_owned(), reason: "it is being changed by somebody else".to_owned() }
}

pub(crate) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The file that the index is rebuilt from: one JSON object per line, appended with one write each.
///
/// Nobody waits for a disk: after the death of the process the kernel still has all of it. From time to
/// time everything is synced in the background; after a power loss, what was committed since, and what
/// was active, is dropped.
pub(crate) struct Journal {
    path: PathBuf,
    file: fs_err::File,
    lines: usize,
    /// Whether the last line may be cut off.
    torn: bool,
}

impl Journal {
    /// Reads the journal and starts it anew, as short as it can be. `exists` tells whether a
    /// directory of that number is there.
    pub(crate) fn open(
        path: PathBuf,
        boot: Option<&str>,
        exists: impl Fn(u64) -> bool,
    ) -> io::Result<(Self, Index)> {
        let mut index = Index::default();
        match fs_err::read(&path) {
            Ok(bytes) => {
                for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    match serde_json::from_slice(line) {
                        Ok(step) => index.replay(step),
                        Err(error) => {
                            tracing::warn!(%error, path = %path.display(), "unreadable line in the snapshot journal");
                        }
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let doubtful = index.survive(boot);
        if doubtful > 0 {
            tracing::warn!(doubtful, "the machine went down before snapshots were on disk; they are dropped");
        }
        let lost = index.retain_existing(exists);
        if lost > 0 {
            tracing::warn!(lost, "snapshots are gone from disk");
        }
        let file = match Self::write_anew(&path, &index) {
            // Pruning, which would make room, needs a daemon that has started.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "the snapshot journal is not made shorter");
                fs_err::OpenOptions::new().append(true).create(true).open(&path)?
            }
            other => other?,
        };
        // The end of an earlier process may have cut the last line off.
        let mut journal = Self { file, path, lines: 0, torn: true };
        journal.lines = index.committed.len() * 2 + index.active.len();
        Ok((journal, index))
    }

    fn write_anew(path: &Path, index: &Index) -> io::Result<fs_err::File> {
        let mut text = Vec::new();
        for step in index.history() {
            write_line(&mut text, &step)?;
        }
        let temporary = path.with_extension("new");
        if let Err(error) = fs_err::write(&temporary, &text) {
            let _ = fs_err::remove_file(&temporary);
            return Err(error);
        }
        fs_err::rename(&temporary, path)?;
        fs_err::OpenOptions::new().append(true).open(path)
    }

    /// Adds a step, before or after its effect on disk, whichever a restart can live with.
    pub(crate) fn append(&mut self, step: &Step, index: &Index) -> io::Result<()> {
        let mut line = Vec::with_capacity(160);
        if self.torn {
            // What a full disk left of a line must not take the next one along.
            line.push(b'\n');
        }
        write_line(&mut line, step)?;
        self.torn = true;
        self.file.write_all(&line)?;
        self.torn = false;
        self.lines += 1;
        let live = index.committed.len() * 2 + index.active.len();
        if self.lines > 10_000 + 4 * live {
            match Self::write_anew(&self.path, index) {
                Ok(file) => self.file = file,
                // The step itself is written.
                Err(error) => tracing::warn!(%error, "the snapshot journal is not made shorter"),
            }
            // After a failure too: not every step is to try it again.
            self.lines = live;
        }
        Ok(())
    }
}

fn write_line(out: &mut Vec<u8>, step: &Step) -> io::Result<()> {
    serde_json::to_writer(&mut *out, step)?;
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Name, whether it is active, parent, number of the directory, children, whether it is entwined.
    type Shape = (String, bool, Option<String>, u64, u32, bool);

    fn shape(index: &Index) -> Vec<Shape> {
        let show = |active: bool| {
            move |(name, record): (&String, &Record)| {
                let Record { id, children, entwined, .. } = *record;
                (name.clone(), active, record.parent.clone(), id, children, entwined)
            }
        };
        let mut shape: Vec<_> =
            index.active.iter().map(show(true)).chain(index.committed.iter().map(show(false))).collect();
        shape.sort();
        shape
    }

    #[test]
    fn a_journal_made_shorter_knows_what_is_under_way() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("journal");
        let open = || Journal::open(path.clone(), Some("boot"), |_| true).expect("open");
        let (mut journal, mut index) = open();
        let id = index.prepare("k", None, UNIX_EPOCH).expect("prepare");
        index.mark_entwined(&[id]);
        let prepared = Step::Prepare { key: "k".into(), id, parent: None, created: 0 };
        journal.append(&prepared, &index).expect("append");
        // It is being committed when another snapshot's step makes the journal shorter.
        journal.file = Journal::write_anew(&path, &index).expect("shorter");
        index.commit("k", "n", Usage::default()).expect("commit");
        let committed = Step::Commit { key: "k".into(), name: "n".into(), size: 0, inodes: 0 };
        journal.append(&committed, &index).expect("append");
        assert_eq!(shape(&open().1), shape(&index));
        assert!(open().1.committed["n"].entwined);
    }

    proptest! {
        /// Whatever happens to snapshots, the journal tells it to the next process.
        #[test]
        fn the_journal_rebuilds_the_index(steps in prop::collection::vec((0u8..5, 0u8..6, 0u8..6), 0..60), cut in 0usize..40) {
            let dir = tempfile::tempdir().expect("temp dir");
            let path = dir.path().join("journal");
            let open = || Journal::open(path.clone(), Some("boot"), |_| true).expect("open");
            let (mut journal, mut index) = open();
            for (kind, one, other) in steps {
                let (key, name) = (format!("k{one}"), format!("n{other}"));
                let step = match kind {
                    0 => {
                        let parent = index.committed.contains_key(&name).then_some(name);
                        let Ok(id) = index.prepare(&key, parent.as_deref(), UNIX_EPOCH) else { continue };
                        index.release_active(&key);
                        Step::Prepare { key, id, parent, created: 0 }
                    }
                    1 => {
                        if index.commit(&key, &name, Usage::default()).is_err() {
                            continue;
                        }
                        Step::Commit { key, name, size: 0, inodes: 0 }
                    }
                    2 => {
                        if index.claim_active(&key).is_err() {
                            continue;
                        }
                        index.discard(&key);
                        Step::Discard { key }
                    }
                    3 => {
                        let Some(record) = index.active.get(&key).or(index.committed.get(&name)) else {
                            continue;
                        };
                        let ids = vec![record.id];
                        index.mark_entwined(&ids);
                        Step::Entwine { ids }
                    }
                    _ => {
                        if index.claim_committed(&name).is_err() {
                            continue;
                        }
                        index.remove(&name);
                        Step::Remove { name }
                    }
                };
                journal.append(&step, &index).expect("append");
            }
            let expect = shape(&index);
            drop((journal, index));
            // Once from the history as it was, once as it was shortened.
            for _ in 0..2 {
                prop_assert_eq!(&shape(&open().1), &expect);
            }
            // A torn tail loses steps, never the file.
            let bytes = std::fs::read(&path).expect("read");
            std::fs::write(&path, &bytes[..bytes.len() - cut.min(bytes.len())]).expect("write");
            let (_, index) = open();
            for record in index.active.values().chain(index.committed.values()) {
                prop_assert!(index.chain(record).is_ok());
            }
        }
    }
}
