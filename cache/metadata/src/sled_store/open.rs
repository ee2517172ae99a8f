use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use buildkit_util_appcontext::spawn_thread;
use bytes::Bytes;

use crate::port::Batch;
use crate::tables::Tables;

/// Number of the layout of keys and values; another one starts empty.
const SCHEMA: &[u8] = b"1";
const SCHEMA_KEY: &[u8] = b"\0schema";
/// sled's own default is 1 GiB.
const CACHE_CAPACITY: u64 = 64 << 20;
const FLUSH_EVERY_MS: u64 = 500;

/// Opens a database and reads all of it. Blocks, and may hang or panic on a damaged one.
fn open_and_read(path: &Path) -> Result<(sled::Db, Tables), String> {
    let db = open_raw(path).map_err(|error| error.to_string())?;
    match db.get(SCHEMA_KEY).map_err(|error| error.to_string())? {
        Some(schema) if schema == SCHEMA => {}
        None if db.is_empty() => {
            db.insert(SCHEMA_KEY, SCHEMA).map_err(|error| error.to_string())?;
        }
        _ => return Err("it has another schema".to_owned()),
    }
    let mut tables = Tables::default();
    for entry in db.iter() {
        let (key, value) = entry.map_err(|error| error.to_string())?;
        if key == SCHEMA_KEY {
            continue;
        }
        let (bucket, key) = split_key(&key).ok_or("it has a key without a bucket")?;
        tables.insert(bucket, Bytes::copy_from_slice(key), Bytes::copy_from_slice(&value));
    }
    Ok((db, tables))
}

fn open_raw(path: &Path) -> sled::Result<sled::Db> {
    sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_CAPACITY)
        .flush_every_ms(Some(FLUSH_EVERY_MS))
        .mode(sled::Mode::HighThroughput)
        .open()
}

/// Makes an empty database with the schema key.
pub(super) fn create(path: &Path) -> sled::Result<sled::Db> {
    let db = open_raw(path)?;
    db.insert(SCHEMA_KEY, SCHEMA)?;
    Ok(db)
}

/// Opens and reads a database on a thread of its own, at most `limit` long. A thread that hangs
/// cannot be ended and is left behind; [`probe`] in a child process avoids that.
pub(super) fn open_within(path: &Path, limit: Duration) -> Result<(sled::Db, Tables), String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = path.to_owned();
    spawn_thread("metadata-open", move || {
        let result = catch_unwind(AssertUnwindSafe(|| open_and_read(&path)))
            .unwrap_or_else(|_| Err("it made the database library panic".to_owned()));
        // Nobody listens after the deadline.
        let _ = sender.send(result);
    })
    .map_err(|error| format!("no thread to open it: {error}"))?;
    receiver
        .recv_timeout(limit)
        .unwrap_or_else(|_| Err(format!("it did not open within {} s", limit.as_secs())))
}

/// Whether the database of a store in `root` can be opened and read, for a child process that the
/// opening daemon runs with a deadline (see [`SledOptions::probe`](crate::SledOptions::probe)): a
/// damaged database can make sled hang or panic, and only a process can be ended then.
///
/// # Errors
/// What is wrong with the database.
pub fn probe(root: &Path) -> Result<(), String> {
    open_and_read(&root.join("db")).map(|_| ())
}

/// Runs the probe command on `root`, at most `limit` long.
pub(super) fn probe_in_child(command: &[OsString], root: &Path, limit: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut child = Command::new(program)
        .args(arguments)
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("its probe did not start: {error}"))?;
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("its probe failed: {status}")),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("its probe did not end within {} s", limit.as_secs()));
            }
            Err(error) => return Err(format!("its probe was lost: {error}")),
        }
    }
}

pub(super) fn join_key(bucket: &str, key: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(bucket.len() + 1 + key.len());
    joined.extend_from_slice(bucket.as_bytes());
    joined.push(0);
    joined.extend_from_slice(key);
    joined
}

fn split_key(joined: &[u8]) -> Option<(&str, &[u8])> {
    let at = joined.iter().position(|byte| *byte == 0)?;
    let bucket = std::str::from_utf8(&joined[..at]).ok()?;
    Some((bucket, &joined[at + 1..]))
}

/// Adds a batch to one in sled's form. All buckets share one tree, because sled's batches are atomic per tree.
pub(super) fn add_to_sled(out: &mut sled::Batch, batch: &Batch) {
    for change in &batch.changes {
        let key = join_key(change.bucket.name(), &change.key);
        match &change.value {
            Some(value) => out.insert(key, value.as_ref()),
            None => out.remove(key),
        }
    }
}
