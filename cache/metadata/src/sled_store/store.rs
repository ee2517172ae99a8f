use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::disk::{Layout, log_failure};
use super::open::{open_within, probe_in_child};
use super::writer::{self, Message};
use crate::port::{Batch, Bucket, Entry, Error, MetadataStore};
use crate::tables::Tables;

/// Bytes of changes that may wait for the database. Beyond that it is written anew from memory as
/// soon as it answers again.
const QUEUE_LIMIT: usize = 64 << 20;

/// Settings of a [`SledStore`].
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// Time to open and read the database before it is taken for broken.
    pub open_limit: Duration,
    /// Time that [`flush`](MetadataStore::flush) and closing may take.
    pub call_limit: Duration,
    /// A command that gets the directory of the store as its last argument and calls [`probe`](crate::probe),
    /// run after an unclean stop.
    pub probe: Option<Vec<OsString>>,
    /// The database is written anew when it is larger than this and more than four times its content.
    pub compact_above: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            open_limit: Duration::from_secs(20),
            call_limit: Duration::from_secs(10),
            probe: None,
            compact_above: 16 << 20,
        }
    }
}

/// What readers and the writer share.
pub(super) struct Shared {
    pub(super) content: RwLock<Content>,
    pub(super) queued: AtomicUsize,
    /// Changes were not queued: the database must be written anew from memory.
    pub(super) overflowed: AtomicBool,
}

pub(super) struct Content {
    pub(super) tables: Tables,
    /// Number of the last batch applied.
    pub(super) sequence: u64,
    sender: mpsc::Sender<Message>,
}

/// A [`MetadataStore`] on [sled](https://docs.rs/sled/0.34.7).
///
/// Its whole content is also in memory, which alone is read; one thread writes behind. sled may
/// fail, hang or panic: the store then goes on from memory, and writes a new database when it can.
/// A directory belongs to one process at a time. Dropping the store writes what is left.
pub struct SledStore {
    shared: Arc<Shared>,
    layout: Layout,
    call_limit: Duration,
    closed: Mutex<mpsc::Receiver<()>>,
}

impl SledStore {
    /// Opens the store in directory `root`, which is made if need be. Blocks.
    ///
    /// A database that is damaged, hangs or has another schema is renamed to `db.broken-…` and the
    /// store starts empty, with a warning.
    ///
    /// # Errors
    /// When another process has it open, or the directory cannot be made or locked.
    pub fn open(root: impl Into<PathBuf>, options: SledOptions) -> Result<Self, Error> {
        let layout = Layout::new(root.into());
        let lock = layout.lock()?;
        layout.repair();
        let (db, tables) = match open_existing(&layout, &options) {
            Ok((db, tables)) => (Some(db), tables),
            Err(reason) => open_damaged(&layout, &options, &reason),
        };
        let (sender, receiver) = mpsc::channel();
        let (closed_sender, closed) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared {
            content: RwLock::new(Content { tables, sequence: 0, sender }),
            queued: AtomicUsize::new(0),
            overflowed: AtomicBool::new(false),
        });
        writer::start(
            writer::Parts {
                shared: shared.clone(),
                layout: layout.clone(),
                compact_above: options.compact_above,
                lock,
            },
            db,
            receiver,
            closed_sender,
        )
        .map_err(|source| Error::Io { action: "start the metadata writer".to_owned(), source })?;
        Ok(Self { shared, layout, call_limit: options.call_limit, closed: Mutex::new(closed) })
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        self.shared.content.read().sender.send(message).map_err(|_| writer_gone())
    }
}

/// Opens what is left of a damaged database, or an empty one. Without either, the store works from
/// memory and tries again later.
fn open_damaged(layout: &Layout, options: &SledOptions, reason: &str) -> (Option<sled::Db>, Tables) {
    let salvaged = salvage(layout, options);
    let aside = layout.set_aside(&layout.db());
    match &salvaged {
        Ok(rows) => {
            tracing::warn!(reason, rows, kept = ?aside, "metadata database was damaged, using what is left of it");
            log_failure("use a salvaged database", fs_err::rename(layout.salvage().db(), layout.db()));
        }
        Err(error) => {
            tracing::warn!(reason, error, kept = ?aside, "metadata database cannot be used, starting with an empty one");
        }
    }
    layout.repair();
    match open_within(&layout.db(), options.open_limit) {
        Ok((db, tables)) => (Some(db), tables),
        Err(reason) => {
            tracing::warn!(reason, "metadata is kept in memory only for now");
            (None, Tables::default())
        }
    }
}

/// Makes a copy of the database without sled's snapshots, from which it then rebuilds itself. Returns
/// the number of rows; none is no success, for sled takes some damage for an empty database.
fn salvage(layout: &Layout, options: &SledOptions) -> Result<usize, String> {
    let copy = layout.salvage();
    copy_without_snapshots(&layout.db(), &copy.db()).map_err(|error| error.to_string())?;
    if let Some(command) = &options.probe {
        probe_in_child(command, copy.root(), options.open_limit)?;
    }
    let (db, tables) = open_within(&copy.db(), options.open_limit)?;
    drop(db);
    match tables.iter().count() {
        0 => Err("nothing is left".to_owned()),
        rows => Ok(rows),
    }
}

fn copy_without_snapshots(from: &Path, to: &Path) -> std::io::Result<()> {
    fs_err::create_dir_all(to)?;
    for file in ["db", "conf"] {
        fs_err::copy(from.join(file), to.join(file))?;
    }
    let blobs = from.join("blobs");
    if blobs.exists() {
        fs_err::create_dir(to.join("blobs"))?;
        for entry in fs_err::read_dir(&blobs)? {
            let entry = entry?;
            fs_err::copy(entry.path(), to.join("blobs").join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn open_existing(layout: &Layout, options: &SledOptions) -> Result<(sled::Db, Tables), String> {
    let marker = layout.clean_marker();
    let unclean = layout.db().exists() && !marker.exists();
    if marker.exists() {
        log_failure("remove the clean marker", fs_err::remove_file(marker));
    }
    if unclean && let Some(command) = &options.probe {
        probe_in_child(command, layout.root(), options.open_limit)?;
    }
    open_within(&layout.db(), options.open_limit)
}

fn writer_gone() -> Error {
    Error::Degraded { reason: "its writer has ended".to_owned() }
}

impl MetadataStore for SledStore {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.shared.content.read().tables.get(bucket, key))
    }

    fn range(&self, bucket: Bucket, prefix: &[u8]) -> Result<Vec<Entry>, Error> {
        Ok(self.shared.content.read().tables.range(bucket, prefix))
    }

    fn apply(&self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let weight = batch.weight();
        let mut content = self.shared.content.write();
        content.tables.apply(&batch);
        content.sequence += 1;
        let sequence = content.sequence;
        let queued = self.shared.queued.fetch_add(weight, Ordering::Relaxed);
        if queued + weight > QUEUE_LIMIT {
            self.shared.queued.fetch_sub(weight, Ordering::Relaxed);
            if !self.shared.overflowed.swap(true, Ordering::Relaxed) {
                tracing::warn!("metadata database is behind; it will be written anew");
            }
            return Ok(());
        }
        // Sent under the lock, so that the order of the queue is the order of memory.
        let _ = content.sender.send(Message::Apply { sequence, batch, weight });
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.send(Message::Flush(reply))?;
        match answer.recv_timeout(self.call_limit) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(Error::Degraded { reason }),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(Error::Deadline { action: "flush", limit: self.call_limit })
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(writer_gone()),
        }
    }

    fn size_on_disk(&self) -> Result<u64, Error> {
        Ok(self.layout.size())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if self.send(Message::Close).is_ok()
            && self.closed.get_mut().recv_timeout(self.call_limit) == Err(mpsc::RecvTimeoutError::Timeout)
        {
            tracing::warn!("metadata database did not close in time");
        }
    }
}
