use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_util_appcontext::{TaskError, spawn_blocking, spawn_thread};
use buildkit_util_overlay::{Difference, Stack, diff};
use parking_lot::Mutex;

use crate::apply::Applier;
use crate::index::{Index, Journal, Piece, Record, Step, millis};
use crate::usage::usage_of_tree;
use crate::{
    ActiveKey, AnySnapshot, Change, Error, Form, Info, MergeInput, Mount, SnapshotKind, SnapshotName,
    Snapshotter, Usage, sync,
};

/// How the directory of a snapshot relates to those of its parents.
///
/// Every snapshot has a directory; its content is in [`content`](Self::content) of it. `parents` are
/// the directories of its parents, the nearest first.
pub trait Backend: Send + Sync + 'static {
    /// Name of the snapshotter.
    fn name(&self) -> &str;

    /// Fills the new, empty directory of a snapshot.
    ///
    /// # Errors
    /// When the file system refuses.
    fn create(&self, dir: &Path, parents: &[PathBuf]) -> io::Result<()>;

    /// Where the files of a snapshot are.
    fn content(&self, dir: &Path) -> PathBuf {
        dir.join("fs")
    }

    /// Completes the directory of a snapshot that was made without a parent and gets one.
    ///
    /// # Errors
    /// When the file system refuses.
    fn adopt(&self, dir: &Path) -> io::Result<()> {
        let _ = dir;
        Ok(())
    }

    /// Makes the root directory of a snapshot that gets a parent look like the parent's.
    ///
    /// # Errors
    /// When the file system refuses.
    fn inherit_root(&self, dir: &Path, parent: &Path) -> io::Result<()> {
        let (content, parent) = (self.content(dir), self.content(parent));
        let stat = rustix::fs::lstat(&parent)?;
        let (owner, group) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(
            rustix::fs::CWD,
            &content,
            Some(owner),
            Some(group),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(rustix::fs::chmod(&content, rustix::fs::Mode::from_raw_mode(stat.st_mode))?)
    }

    /// How a snapshot is mounted; `readonly` is a committed one.
    fn mount(&self, dir: &Path, parents: &[PathBuf], readonly: bool) -> Mount;

    /// Whether a directory holds only what changes from its parents, in overlayfs's form.
    fn is_stacked(&self) -> bool;

    /// Whether overlayfs keeps its attributes in the `user.` namespace here.
    fn userxattr(&self) -> bool {
        false
    }
}

/// A [`Snapshotter`] that keeps each snapshot in a directory of its own.
///
/// Below its root are `snapshots/<number>/`, `journal` with what the numbers mean, and `trash/` with
/// what is being removed. Directories that the journal does not know are removed when it opens.
pub struct Layered<B> {
    inner: Arc<Inner<B>>,
}

pub(crate) struct Inner<B> {
    pub(crate) backend: B,
    pub(crate) root: PathBuf,
    snapshots: PathBuf,
    /// Both under one lock, because the order of the journal is the order of changes; an append is
    /// one short write to the page cache.
    pub(crate) state: Mutex<State>,
    /// Tells the syncing thread that there is something to do.
    committed: mpsc::SyncSender<()>,
}

pub(crate) struct State {
    pub(crate) index: Index,
    journal: Journal,
}

impl<B: Backend> Layered<B> {
    /// Opens the snapshots in `root`, which is made if need be. Blocks. Leftovers of a crash are
    /// removed in the background.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(root: impl Into<PathBuf>, backend: B) -> Result<Self, Error> {
        let root = root.into();
        let failed = |source| Error::Io { action: format!("open snapshots in `{}`", root.display()), source };
        let snapshots = root.join("snapshots");
        fs_err::create_dir_all(&snapshots).map_err(failed)?;
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::chmod(&root, mode).map_err(|error| failed(error.into()))?;
        let mut present = HashSet::new();
        let mut strangers = Vec::new();
        for entry in fs_err::read_dir(&snapshots).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            match name.to_str().and_then(|name| name.parse::<u64>().ok()) {
                Some(id) => drop(present.insert(id)),
                None => strangers.push(name),
            }
        }
        let (journal, mut index) =
            Journal::open(root.join("journal"), boot_id().as_deref(), |id| present.contains(&id))
                .map_err(failed)?;
        for record in index.active.values() {
            // A process that died left it mounted volatile; others could not mount it any more.
            crate::mounter::forget_volatile(&snapshots.join(record.id.to_string()).join("work"));
        }
        for record in index.active.values().chain(index.committed.values()) {
            present.remove(&record.id);
            if let Some(flat) = &record.flat {
                present.remove(&flat.id);
            }
        }
        let trash = root.join("trash");
        fs_err::create_dir_all(&trash).map_err(failed)?;
        for id in present {
            // Numbers are not used again, whatever a lost journal has forgotten.
            while index.next_id() < id {}
            fs_err::rename(snapshots.join(id.to_string()), trash.join(id.to_string())).map_err(failed)?;
        }
        for name in strangers {
            fs_err::rename(snapshots.join(&name), trash.join(&name)).map_err(failed)?;
        }
        let full = fs_err::read_dir(&trash).map_err(failed)?.next().is_some();
        if full {
            // On a thread of its own, because there may be no runtime yet, and it may take long.
            spawn_thread("snapshot-trash", move || {
                for entry in fs_err::read_dir(&trash).into_iter().flatten().flatten() {
                    if let Err(error) = fs_err::remove_dir_all(entry.path()) {
                        tracing::warn!(%error, "leftover of a snapshot not removed");
                    }
                }
            })
            .map_err(failed)?;
        }
        let state = Mutex::new(State { index, journal });
        let (committed, wake) = mpsc::sync_channel(1);
        let inner = Arc::new(Inner { backend, root, snapshots, state, committed });
        sync::start(Arc::downgrade(&inner), wake).map_err(|source| Error::Io {
            action: "start the thread that syncs snapshots".to_owned(),
            source,
        })?;
        let _ = inner.committed.try_send(());
        Ok(Self { inner })
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.inner.backend
    }

    /// Runs synchronous work to its end, even when the caller goes away.
    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Inner<B>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        spawn_blocking(move || work(&inner)).await.unwrap_or_else(|error: TaskError| {
            Err(Error::Other { action: action.to_owned(), source: error.into() })
        })
    }
}

/// How often a directory is tried to be removed, and the time between.
const DELETE_ATTEMPTS: u32 = 20;
const DELETE_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

impl<B: Backend> Inner<B> {
    pub(crate) fn dir(&self, id: u64) -> PathBuf {
        self.snapshots.join(id.to_string())
    }

    fn dirs(&self, chain: &[u64]) -> Vec<PathBuf> {
        chain.iter().map(|id| self.dir(*id)).collect()
    }

    pub(crate) fn journal(&self, state: &mut State, step: &Step) -> Result<(), Error> {
        let State { index, journal } = state;
        journal.append(step, index).map_err(|source| Error::Io {
            action: format!("write the snapshot journal in `{}`", self.root.display()),
            source,
        })
    }

    /// Makes an active snapshot that stays claimed.
    fn prepare_claimed(&self, key: &str, parent: Option<&str>) -> Result<u64, Error> {
        let created = SystemTime::now();
        let (id, parents) = {
            let mut state = self.state.lock();
            let id = state.index.prepare(key, parent, created)?;
            (id, self.mount_dirs(&state.index.pieces(parent)?))
        };
        let dir = self.dir(id);
        let made = fs_err::create_dir(&dir)
            .and_then(|()| self.backend.create(&dir, &parents))
            .map_err(|source| Error::Io { action: format!("make snapshot `{key}`"), source })
            .and_then(|()| {
                let step = Step::Prepare {
                    key: key.to_owned(),
                    id,
                    parent: parent.map(str::to_owned),
                    created: millis(created),
                };
                self.journal(&mut self.state.lock(), &step)
            });
        if let Err(error) = made {
            self.state.lock().index.discard(key);
            self.delete(id);
            return Err(error);
        }
        Ok(id)
    }

    fn mount_dirs(&self, pieces: &[Piece]) -> Vec<PathBuf> {
        pieces.iter().map(|piece| self.dir(piece.id)).collect()
    }

    /// Removes the directories of a snapshot that has no record any more.
    fn delete_all(&self, record: &Record, told: Result<(), Error>) {
        if let Some(flat) = &record.flat {
            self.delete(flat.id);
        }
        self.delete_told(record.id, told);
    }

    /// Removes a directory whose record is gone, whether or not the journal could be told. On a full disk it
    /// cannot, and removing is what makes room.
    fn delete_told(&self, id: u64, told: Result<(), Error>) {
        if let Err(error) = told {
            tracing::warn!(%error, "removing a snapshot that the journal still knows");
            // All at once: the next process drops records without a directory, but would trust half of one.
            let trash = self.root.join("trash").join(id.to_string());
            if let Err(error) = fs_err::rename(self.dir(id), &trash) {
                tracing::warn!(%error, "snapshot directory not removed");
                return;
            }
            if let Err(error) = fs_err::remove_dir_all(&trash) {
                tracing::warn!(%error, "snapshot directory not removed, trying again at the next start");
            }
            return;
        }
        self.delete(id);
    }

    /// Removes a directory that no record has any more.
    pub(crate) fn delete(&self, id: u64) {
        let dir = self.dir(id);
        for attempt in 1..=DELETE_ATTEMPTS {
            // The kernel leaves a directory without permissions in the work directory; root may remove it.
            match fs_err::remove_dir_all(&dir) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.exists() => return,
                // Work whose caller has left may write until it comes to its end.
                Err(_) if attempt < DELETE_ATTEMPTS => std::thread::sleep(DELETE_PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "snapshot directory not removed, trying again at the next start");
                }
            }
        }
    }

    fn commit(&self, name: &str, key: &str, usage: Usage) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.index.commit(key, name, usage)?;
        let step = Step::Commit {
            key: key.to_owned(),
            name: name.to_owned(),
            size: usage.size,
            inodes: usage.inodes,
        };
        if let Err(error) = self.journal(&mut state, &step) {
            state.index.uncommit(name, key);
            return Err(error);
        }
        // A full channel has told it already.
        let _ = self.committed.try_send(());
        Ok(())
    }

    /// The directories of a snapshot, its own first.
    fn locate(&self, of: impl FnOnce(&Index) -> Option<&Record>, name: &str) -> Result<Vec<PathBuf>, Error> {
        let state = self.state.lock();
        let record = of(&state.index).ok_or_else(|| Error::NotFound(name.to_owned()))?;
        Ok(self.dirs(&state.index.chain(record)?))
    }

    fn committed(&self, name: &SnapshotName) -> Result<Vec<PathBuf>, Error> {
        self.locate(|index| index.committed.get(&name.0), &name.0)
    }

    /// The files of a committed snapshot as one tree.
    fn stack(&self, name: &SnapshotName) -> Result<Stack, Error> {
        let mut dirs = self.committed(name)?;
        if !self.backend.is_stacked() {
            dirs.truncate(1);
        }
        let layers = dirs.iter().map(|dir| self.backend.content(dir)).collect();
        Stack::new(layers)
            .map_err(|source| Error::Io { action: format!("read snapshot `{}`", name.0), source })
    }

    /// Gives a claimed active snapshot a parent.
    fn rebase(&self, key: &str, old: u64, parent: &str, inherit_root: bool) -> Result<(), Error> {
        let id = {
            let mut state = self.state.lock();
            let id = state.index.next_id();
            state.index.rebase(key, id, parent)?;
            id
        };
        let failed = |source| Error::Io { action: format!("put snapshot `{key}` on its parent"), source };
        let moved = || -> Result<(), Error> {
            if inherit_root {
                let parent = self.committed(&SnapshotName(parent.to_owned()))?;
                self.backend.inherit_root(&self.dir(old), &parent[0]).map_err(failed)?;
            }
            self.backend.adopt(&self.dir(old)).map_err(failed)?;
            fs_err::rename(self.dir(old), self.dir(id)).map_err(failed)
        };
        let told = moved().and_then(|()| {
            let step = Step::Rebase { key: key.to_owned(), id, parent: parent.to_owned() };
            self.journal(&mut self.state.lock(), &step)
        });
        if told.is_err() {
            // Where the directory is now is where it stays known: a start without this step drops it.
            let at = if self.dir(id).exists() { id } else { old };
            self.state.lock().index.unrebase(key, at);
        }
        told
    }

    fn merge(&self, name: &SnapshotName, inputs: &[MergeInput]) -> Result<Usage, Error> {
        {
            let state = self.state.lock();
            if state.index.committed.contains_key(&name.0) {
                return Err(Error::AlreadyExists(name.0.clone()));
            }
            for snapshot in inputs.iter().flat_map(|input| [&input.lower, &input.upper]).flatten() {
                if !state.index.committed.contains_key(&snapshot.0) {
                    return Err(Error::NotFound(snapshot.0.clone()));
                }
            }
        }
        let (base, rest) = if self.backend.is_stacked() { self.split_base(inputs) } else { (None, inputs) };
        let key = format!("merge {}", name.0);
        let id = self.prepare_claimed(&key, base.map(|base| base.0.as_str()))?;
        let applied = self.apply(id, base, rest).and_then(|(usage, entwined)| {
            if entwined {
                self.mark_entwined(&[id])?;
            }
            self.commit(&name.0, &key, usage)?;
            Ok(usage)
        });
        if applied.is_err() {
            let mut state = self.state.lock();
            let told = match state.index.discard(&key) {
                Some(_) => self.journal(&mut state, &Step::Discard { key }),
                None => Ok(()),
            };
            drop(state);
            self.delete_told(id, told);
        }
        applied
    }

    fn mark_entwined(&self, ids: &[u64]) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.index.mark_entwined(ids);
        self.journal(&mut state, &Step::Entwine { ids: ids.to_vec() })
    }

    /// Fills the directory of a merge; tells its size, and whether it has files of a snapshot in it that
    /// has files in common with others under other names.
    fn apply(
        &self,
        id: u64,
        base: Option<&SnapshotName>,
        inputs: &[MergeInput],
    ) -> Result<(Usage, bool), Error> {
        let is_entwined = |upper: Option<&SnapshotName>, lower: Option<&SnapshotName>| {
            let name = |of: Option<&SnapshotName>| of.map(|of| of.0.clone());
            let index = &self.state.lock().index;
            index.is_entwined(name(upper).as_deref(), name(lower).as_deref())
        };
        // Linked from more than one such snapshot, one file could be there under two names.
        let (mut linked, mut entwined) = (is_entwined(base, None), false);
        let failed = |source| Error::Io { action: "merge snapshots".to_owned(), source };
        let base = base.map(|base| self.stack(base)).transpose()?;
        let root = self.backend.content(&self.dir(id));
        let mut applier = Applier::new(root, base, self.backend.userxattr());
        for input in inputs {
            let lower = input.lower.as_ref().map(|name| self.stack(name)).transpose()?;
            let upper = input.upper.as_ref().map(|name| self.stack(name)).transpose()?;
            let is_entwined = is_entwined(input.upper.as_ref(), input.lower.as_ref());
            let link = !(is_entwined && linked);
            entwined |= is_entwined && link;
            linked |= is_entwined;
            applier.apply(lower.as_ref(), upper.as_ref(), link).map_err(failed)?;
        }
        Ok((applier.finish().map_err(failed)?, entwined))
    }

    /// The snapshot that the first inputs add up to, and the inputs that are left: inputs that each
    /// go from a parent to its child need not be merged.
    fn split_base<'i>(&self, inputs: &'i [MergeInput]) -> (Option<&'i SnapshotName>, &'i [MergeInput]) {
        let state = self.state.lock();
        let mut base: Option<&SnapshotName> = None;
        for (number, input) in inputs.iter().enumerate() {
            let parent = input
                .upper
                .as_ref()
                .and_then(|upper| state.index.committed.get(&upper.0))
                .and_then(|record| record.parent.as_deref());
            let lower = input.lower.as_ref().map(|lower| lower.0.as_str());
            if input.upper.is_none() || parent != lower || lower != base.map(|base| base.0.as_str()) {
                return (base, &inputs[number..]);
            }
            base = input.upper.as_ref();
        }
        (base, &[])
    }

    fn changes(
        &self,
        lower: Option<&SnapshotName>,
        upper: Option<&SnapshotName>,
    ) -> Result<Vec<Change>, Error> {
        let lower = lower.map(|name| self.stack(name)).transpose()?;
        let upper = upper.map(|name| self.stack(name)).transpose()?;
        let compare = || -> io::Result<Vec<Change>> {
            let lower = lower.as_ref().map(Stack::root).transpose()?;
            let upper = upper.as_ref().map(Stack::root).transpose()?;
            let mut changes = Vec::new();
            diff(lower.as_ref(), upper.as_ref(), &mut |difference| {
                match difference {
                    Difference::Put(path, _) => changes.push(Change::Put(path.to_owned())),
                    Difference::Delete(path) => changes.push(Change::Delete(path.to_owned())),
                    Difference::Enter(..) => {}
                }
                Ok(())
            })?;
            Ok(changes)
        };
        compare().map_err(|source| Error::Io { action: "compare snapshots".to_owned(), source })
    }

    fn usage_now(&self, dir: &Path, name: &str) -> Result<Usage, Error> {
        usage_of_tree(&self.backend.content(dir))
            .map_err(|source| Error::Io { action: format!("measure snapshot `{name}`"), source })
    }
}

/// Changes with every start of the machine; see proc(5).
fn boot_id() -> Option<String> {
    let id = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

fn info(name: &str, record: &Record, kind: SnapshotKind) -> Info {
    Info {
        name: name.to_owned(),
        parent: record.parent.clone().map(SnapshotName),
        kind,
        created: record.created,
    }
}

#[async_trait]
impl<B: Backend> Snapshotter for Layered<B> {
    fn name(&self) -> &str {
        self.inner.backend.name()
    }

    async fn prepare(&self, key: &ActiveKey, parent: Option<&SnapshotName>) -> Result<(), Error> {
        let (key, parent) = (key.0.clone(), parent.map(|parent| parent.0.clone()));
        self.blocking("make a snapshot", move |inner| {
            inner.prepare_claimed(&key, parent.as_deref())?;
            // The new snapshot keeps its parent, but nobody has mounted it yet.
            if let Some(parent) = &parent {
                inner.flatten_if_deep(parent);
            }
            inner.state.lock().index.release_active(&key);
            Ok(())
        })
        .await
    }

    async fn commit(&self, name: &SnapshotName, key: &ActiveKey) -> Result<Usage, Error> {
        let (name, key) = (name.0.clone(), key.0.clone());
        self.blocking("commit a snapshot", move |inner| {
            let record = {
                let mut state = inner.state.lock();
                if state.index.committed.contains_key(&name) {
                    return Err(Error::AlreadyExists(name));
                }
                state.index.claim_active(&key)?
            };
            let committed = inner.usage_now(&inner.dir(record.id), &key).and_then(|usage| {
                inner.commit(&name, &key, usage)?;
                Ok(usage)
            });
            if committed.is_err() {
                inner.state.lock().index.release_active(&key);
            }
            committed
        })
        .await
    }

    async fn mounts(&self, key: &ActiveKey) -> Result<Mount, Error> {
        let (id, parents) = {
            let index = &self.inner.state.lock().index;
            let record = index.active.get(&key.0).ok_or_else(|| Error::NotFound(key.0.clone()))?;
            (record.id, index.pieces(record.parent.as_deref())?)
        };
        Ok(self.inner.backend.mount(&self.inner.dir(id), &self.inner.mount_dirs(&parents), false))
    }

    async fn view(&self, name: &SnapshotName) -> Result<Mount, Error> {
        let pieces = self.inner.state.lock().index.pieces(Some(&name.0))?;
        let dirs = self.inner.mount_dirs(&pieces);
        match dirs.split_first() {
            Some((dir, parents)) => Ok(self.inner.backend.mount(dir, parents, true)),
            None => Err(Error::NotFound(name.0.clone())),
        }
    }

    async fn entwine(&self, key: &ActiveKey, source: &AnySnapshot) -> Result<bool, Error> {
        let ids = {
            let index = &self.inner.state.lock().index;
            let (known, name) = match source {
                AnySnapshot::Active(key) => (index.active.get(&key.0), &key.0),
                AnySnapshot::Committed(name) => (index.committed.get(&name.0), &name.0),
            };
            let source = known.ok_or_else(|| Error::NotFound(name.clone()))?;
            let target = index.active.get(&key.0).ok_or_else(|| Error::NotFound(key.0.clone()))?;
            let both = [target, source];
            both.into_iter().filter(|record| !record.entwined).map(|record| record.id).collect::<Vec<_>>()
        };
        if !ids.is_empty() {
            self.inner.mark_entwined(&ids)?;
        }
        Ok(true)
    }

    fn form(&self) -> Form {
        match self.inner.backend.is_stacked() {
            true => Form::Changes { userxattr: self.inner.backend.userxattr() },
            false => Form::Whole,
        }
    }

    async fn rebase(&self, key: &ActiveKey, parent: &SnapshotName, inherit_root: bool) -> Result<(), Error> {
        let (key, parent) = (key.0.clone(), parent.0.clone());
        self.blocking("put a snapshot on its parent", move |inner| {
            if !inner.backend.is_stacked() {
                let reason = "its directory holds the whole tree".to_owned();
                return Err(Error::Precondition { name: key, reason });
            }
            let record = inner.state.lock().index.claim_active(&key)?;
            let rebased = inner.rebase(&key, record.id, &parent, inherit_root);
            if rebased.is_ok() {
                inner.flatten_if_deep(&parent);
            }
            inner.state.lock().index.release_active(&key);
            rebased
        })
        .await
    }

    async fn directories(&self, name: &SnapshotName) -> Result<Vec<PathBuf>, Error> {
        Ok(self.inner.stack(name)?.layers().to_vec())
    }

    async fn merge(&self, name: &SnapshotName, inputs: &[MergeInput]) -> Result<Usage, Error> {
        let (name, inputs) = (name.clone(), inputs.to_vec());
        self.blocking("merge snapshots", move |inner| inner.merge(&name, &inputs)).await
    }

    async fn changes(
        &self,
        lower: Option<&SnapshotName>,
        upper: Option<&SnapshotName>,
    ) -> Result<Vec<Change>, Error> {
        let (lower, upper) = (lower.cloned(), upper.cloned());
        self.blocking("compare snapshots", move |inner| inner.changes(lower.as_ref(), upper.as_ref())).await
    }

    async fn discard(&self, key: &ActiveKey) -> Result<(), Error> {
        let key = key.0.clone();
        self.blocking("discard a snapshot", move |inner| {
            let (record, told) = {
                let mut state = inner.state.lock();
                let record = state.index.claim_active(&key)?;
                state.index.discard(&key);
                // First the record, then the files: a crash between leaves files that nobody owns.
                let told = inner.journal(&mut state, &Step::Discard { key });
                (record, told)
            };
            inner.delete_all(&record, told);
            Ok(())
        })
        .await
    }

    async fn remove(&self, name: &SnapshotName) -> Result<(), Error> {
        let name = name.0.clone();
        self.blocking("remove a snapshot", move |inner| {
            let (record, told) = {
                let mut state = inner.state.lock();
                let record = state.index.claim_committed(&name)?;
                state.index.remove(&name);
                let told = inner.journal(&mut state, &Step::Remove { name });
                (record, told)
            };
            inner.delete_all(&record, told);
            Ok(())
        })
        .await
    }

    async fn stat(&self, name: &SnapshotName) -> Result<Info, Error> {
        let state = self.inner.state.lock();
        match state.index.committed.get(&name.0) {
            Some(record) => Ok(info(&name.0, record, SnapshotKind::Committed)),
            None => Err(Error::NotFound(name.0.clone())),
        }
    }

    async fn active_usage(&self, key: &ActiveKey) -> Result<Usage, Error> {
        let key = key.0.clone();
        self.blocking("measure a snapshot", move |inner| {
            let dirs = inner.locate(|index| index.active.get(&key), &key)?;
            inner.usage_now(&dirs[0], &key)
        })
        .await
    }

    async fn usage(&self, name: &SnapshotName) -> Result<Usage, Error> {
        let state = self.inner.state.lock();
        match state.index.committed.get(&name.0) {
            Some(record) => Ok(record.usage),
            None => Err(Error::NotFound(name.0.clone())),
        }
    }

    async fn list(&self) -> Result<Vec<Info>, Error> {
        let state = self.inner.state.lock();
        let active = state.index.active.iter().map(|(key, record)| info(key, record, SnapshotKind::Active));
        let committed =
            state.index.committed.iter().map(|(name, record)| info(name, record, SnapshotKind::Committed));
        Ok(active.chain(committed).collect())
    }
}
