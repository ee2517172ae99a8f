use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use buildkit_util_appcontext::spawn_thread;

use super::disk::{Layout, log_failure};
use super::open::{add_to_sled, create, join_key, open_within};
use super::store::Shared;
use crate::port::Batch;

/// Bytes written between two looks at the size of the database.
const CHECK_EVERY: usize = 4 << 20;
/// Time between two attempts to make a database that failed.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long changes are gathered that go to the database as one: it waits for the disk twice for each that it gets.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes per batch when a database is written anew, and when changes are gathered.
const COPY_BATCH: usize = 1 << 20;
/// A database is written anew when it is this many times larger than its content.
const SLACK: u64 = 4;

pub(super) enum Message {
    Apply { sequence: u64, batch: Batch, weight: usize },
    Flush(SyncSender<Result<(), String>>),
    Close,
}

/// What the writer works with.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) layout: Layout,
    pub(super) compact_above: u64,
    /// Held as long as the writer lives, so that no other process opens the database before.
    pub(super) lock: fs_err::File,
}

struct Writer {
    parts: Parts,
    /// `None` while the database does not work.
    db: Option<sled::Db>,
    failure: Option<(String, Instant)>,
    /// Batches up to this number are already in the database.
    written: u64,
    unchecked: usize,
}

/// Batches in their order, as one.
struct Gathered {
    /// Of the last one.
    sequence: u64,
    changes: sled::Batch,
    weight: usize,
}

impl Gathered {
    fn from(sequence: u64, batch: &Batch, weight: usize) -> Self {
        let mut gathered = Self { sequence: 0, changes: sled::Batch::default(), weight: 0 };
        gathered.add(sequence, batch, weight);
        gathered
    }

    fn add(&mut self, sequence: u64, batch: &Batch, weight: usize) {
        self.sequence = sequence;
        add_to_sled(&mut self.changes, batch);
        self.weight += weight;
    }

    /// Adds the batches that follow soon. Returns also what came instead of another one.
    fn with_more(mut self, messages: &Receiver<Message>) -> (Self, Option<Message>) {
        let end = Instant::now() + GATHER;
        while self.weight < COPY_BATCH {
            match messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Message::Apply { sequence, batch, weight }) => self.add(sequence, &batch, weight),
                Ok(other) => return (self, Some(other)),
                // That nobody can send any more is seen at the next look.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        (self, None)
    }
}

/// Starts the one thread that calls the database. `closed` hears when the thread is done.
pub(super) fn start(
    parts: Parts,
    db: Option<sled::Db>,
    messages: Receiver<Message>,
    closed: SyncSender<()>,
) -> std::io::Result<()> {
    let mut writer = Writer { parts, db, failure: None, written: 0, unchecked: 0 };
    if writer.db.is_none() {
        writer.failure = Some(("it cannot be made".to_owned(), Instant::now()));
    }
    spawn_thread("metadata", move || {
        writer.compact_if_large();
        writer.run(&messages);
        drop(writer);
        let _ = closed.send(());
    })
    .map(drop)
}

impl Writer {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let message = match messages.recv_timeout(RETRY_AFTER) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.recover();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let message = match message {
                Message::Apply { sequence, batch, weight } => {
                    let (gathered, next) = Gathered::from(sequence, &batch, weight).with_more(messages);
                    let weight = gathered.weight;
                    self.write(gathered);
                    self.parts.shared.queued.fetch_sub(weight, Ordering::Relaxed);
                    next
                }
                other => Some(other),
            };
            match message {
                Some(Message::Flush(reply)) => {
                    let _ = reply.send(self.flush());
                }
                Some(Message::Close) => break,
                Some(Message::Apply { .. }) | None => {}
            }
        }
        self.close();
    }

    fn write(&mut self, Gathered { sequence, changes, weight }: Gathered) {
        self.recover();
        // A database that was written anew has all that was queued by then.
        if sequence <= self.written {
            return;
        }
        if self.call("write to it", |db| db.apply_batch(changes)).is_ok() {
            self.written = sequence;
            self.unchecked += weight;
            if self.unchecked >= CHECK_EVERY {
                self.compact_if_large();
            }
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        self.recover();
        self.call("flush it", |db| db.flush().map(drop))
    }

    /// Calls the database. A panic or an error makes it unused until [`recover`](Self::recover).
    fn call<T>(
        &mut self,
        action: &str,
        work: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, String> {
        let Some(db) = &self.db else {
            return Err(self.failure.as_ref().map_or_else(String::new, |(reason, _)| reason.clone()));
        };
        let reason = match catch_unwind(AssertUnwindSafe(|| work(db))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => format!("failed to {action}: {error}"),
            Err(_) => format!("failed to {action}: the database library panicked"),
        };
        self.fail(reason.clone());
        Err(reason)
    }

    fn fail(&mut self, reason: String) {
        tracing::warn!(reason, "metadata database failed; metadata is in memory only until it is made anew");
        self.failure = Some((reason, Instant::now()));
        self.discard_db();
    }

    /// Closes the database, whatever its destructor does.
    fn discard_db(&mut self) {
        if let Some(db) = self.db.take() {
            let _ = catch_unwind(AssertUnwindSafe(move || drop(db)));
        }
    }

    /// Makes the database anew from memory if it failed some time ago or missed changes.
    fn recover(&mut self) {
        let due = match &self.failure {
            Some((_, since)) => since.elapsed() >= RETRY_AFTER,
            None => self.parts.shared.overflowed.load(Ordering::Relaxed),
        };
        if due {
            self.rewrite();
        }
    }

    fn compact_if_large(&mut self) {
        self.unchecked = 0;
        if self.db.is_none() {
            return;
        }
        let size = self.parts.layout.size();
        let live = self.parts.shared.content.read().tables.live_bytes();
        if size > self.parts.compact_above && size > live.saturating_mul(SLACK) {
            tracing::debug!(size, live, "compacting the metadata database");
            self.rewrite();
        }
    }

    /// Writes a new database from memory and puts it in the place of the old one, whose files
    /// never shrink.
    fn rewrite(&mut self) {
        self.parts.shared.overflowed.store(false, Ordering::Relaxed);
        let (tables, sequence) = {
            let content = self.parts.shared.content.read();
            (content.tables.clone(), content.sequence)
        };
        let layout = self.parts.layout.clone();
        let copied = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
            let new = layout.new_db();
            if new.exists() {
                fs_err::remove_dir_all(&new).map_err(|error| error.to_string())?;
            }
            copy(&tables, &new).map_err(|error| error.to_string())
        }))
        .unwrap_or_else(|_| Err("the database library panicked".to_owned()));
        drop(tables);
        let replaced = copied.and_then(|()| {
            self.discard_db();
            layout.replace().map_err(|error| error.to_string())?;
            open_within(&layout.db(), Duration::from_secs(60))
        });
        match replaced {
            Ok((db, _)) => {
                self.db = Some(db);
                self.failure = None;
                self.written = self.written.max(sequence);
            }
            Err(reason) => {
                log_failure(
                    "remove an unfinished database",
                    match fs_err::remove_dir_all(layout.new_db()) {
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                        other => other,
                    },
                );
                if self.db.is_none() || self.failure.is_some() {
                    self.fail(reason);
                } else {
                    tracing::warn!(reason, "metadata database was not compacted");
                }
            }
        }
    }

    fn close(&mut self) {
        self.recover();
        let flushed = self.call("flush it", |db| db.flush().map(drop)).is_ok();
        self.discard_db();
        if flushed {
            log_failure("mark the database clean", fs_err::write(self.parts.layout.clean_marker(), b""));
        }
        let _ = &self.parts.lock;
    }
}

fn copy(tables: &crate::tables::Tables, path: &std::path::Path) -> sled::Result<()> {
    let db = create(path)?;
    let (mut batch, mut size) = (sled::Batch::default(), 0);
    for (bucket, key, value) in tables.iter() {
        batch.insert(join_key(bucket, key), value.as_ref());
        size += key.len() + value.len();
        if size >= COPY_BATCH {
            db.apply_batch(std::mem::take(&mut batch))?;
            size = 0;
        }
    }
    db.apply_batch(batch)?;
    db.flush()?;
    Ok(())
}
