use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use buildkit_errdefs::BoxError;
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_fsutil_types::packet::PacketType;
use buildkit_util_fsutil_types::{Packet, Stat};
use buildkit_util_system::Root;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::sync::mpsc;

use crate::dirfs::DirWalk;
use crate::disk::DiskWriter;
use crate::{
    ContentHook, Differ, Error, FilterFn, HardlinkCheck, Progress, Validator, Walk, compare_paths, mode,
};

/// File in the root that holds the attributes of all entries after a transfer of metadata: for each
/// the length of its `Stat` message, 4 bytes, lowest first, and the message.
pub const METADATA_FILE: &str = ".fsutil-metadata";

/// Whether an entry is wanted with its content in a transfer of metadata.
pub type MetadataFilter = Arc<dyn Fn(&str, &Stat) -> bool + Send + Sync>;

/// How a tree is received.
#[derive(Default)]
pub struct ReceiveOptions {
    /// Leave what the peer does not have.
    pub merge: bool,
    /// How files that are there are compared; does not matter when merging.
    pub differ: Differ,
    /// Changes attributes before they are compared and written.
    pub filter: Option<FilterFn>,
    /// Is told of changes.
    pub hook: Option<Box<dyn ContentHook>>,
    /// Write only the attributes of entries, to [`METADATA_FILE`], but for those that the function
    /// wants.
    pub metadata_only: Option<MetadataFilter>,
    /// Is told how many bytes of packets were received.
    pub progress: Option<Progress>,
    /// Kept as long as anything may be written, even if the caller leaves: what the destination needs
    /// to stay as it is, such as a mount.
    pub keep: Option<Arc<dyn Send + Sync>>,
}

/// Packets in one batch for the writing thread, at most.
const BATCH_PACKETS: usize = 512;
/// Bytes in one batch, about.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that may wait for the writing thread.
const BATCHES: usize = 4;

/// Makes a directory equal to the tree that a peer sends. Returns when the peer has confirmed the
/// end; what follows on `incoming` (the end of the call) is left to the caller.
///
/// `outgoing` is unbounded because the peer may stop reading requests while its data waits for us;
/// there is one small request for each file at most.
///
/// # Errors
/// Those of the peer, the disk and the connection. The peer is told. The directory is then in a
/// state in between; receiving again repairs it.
pub async fn receive<S, E>(
    dest: Root,
    incoming: &mut S,
    outgoing: mpsc::UnboundedSender<Packet>,
    options: ReceiveOptions,
) -> Result<(), Error>
where
    S: Stream<Item = Result<Packet, E>> + Unpin + Send,
    E: Into<BoxError>,
{
    let progress = options.progress.clone();
    let (batches, receiver) = mpsc::channel::<Vec<Packet>>(BATCHES);
    let replies = outgoing.clone();
    let mut writer = spawn_blocking(move || write(dest, options, receiver, &replies));
    let total = std::sync::atomic::AtomicU64::new(0);
    let count = &total;
    let report = progress.clone();
    // Owns the batches, so that the writer sees the end when this ends.
    let pump = async move {
        loop {
            let Some(first) = incoming.next().await else { return Ok(()) };
            let mut batch = Vec::new();
            let mut bytes = 0;
            let mut ended = false;
            let mut next = Some(first);
            while let Some(packet) = next.take() {
                let packet = packet.map_err(|error| Error::Transport(error.into()))?;
                bytes += packet.encoded_len();
                batch.push(packet);
                if batch.len() < BATCH_PACKETS && bytes < BATCH_BYTES {
                    match incoming.next().now_or_never() {
                        Some(None) => ended = true,
                        Some(packet) => next = packet,
                        None => {}
                    }
                }
            }
            let total = count.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
            if let Some(report) = &report {
                report(total, false);
            }
            if batches.send(batch).await.is_err() || ended {
                return Ok(());
            }
        }
    };
    // The writer knows when the transfer is complete.
    let mut broken: Option<Error> = None;
    let result = tokio::select! {
        biased;
        done = &mut writer => done,
        pumped = pump => {
            if let Err(error) = pumped {
                broken = Some(error);
            }
            writer.await
        }
    };
    if let Some(progress) = &progress {
        progress(total.load(Ordering::Relaxed), true);
    }
    let result = result.map_err(Error::Task).and_then(|result| result);
    match (result, broken) {
        (Err(Error::Ended), Some(error)) => Err(error),
        (Err(error), _) => {
            if !matches!(error, Error::Ended) {
                let packet = Packet {
                    r#type: PacketType::PacketErr as i32,
                    data: error.to_string().into_bytes().into(),
                    ..Packet::default()
                };
                let _ = outgoing.send(packet);
            }
            Err(error)
        }
        (Ok(()), _) => Ok(()),
    }
}

/// The whole of a transfer, on a thread that may block.
fn write(
    dest: Root,
    mut options: ReceiveOptions,
    mut batches: mpsc::Receiver<Vec<Packet>>,
    outgoing: &mpsc::UnboundedSender<Packet>,
) -> Result<(), Error> {
    let _keep = options.keep.take();
    let root = dest.as_fd().try_clone_to_owned().map_err(|error| Error::io("open", "", error))?;
    let disk = DiskWriter::new(dest, options.filter.clone(), options.hook.take())?;
    let mut receiver = Receiver {
        disk,
        lower: (!options.merge).then(|| DirWalk::new(root.as_fd(), "", false)),
        lower_next: None,
        outgoing,
        differ: options.differ,
        filter: options.filter,
        validator: Validator::default(),
        hardlinks: HardlinkCheck::default(),
        metadata: options.metadata_only.map(|wanted| Metadata {
            wanted,
            buffer: Vec::new(),
            parents: Vec::new(),
        }),
        next_id: 0,
        all_stats: false,
        finished: false,
    };
    while let Some(batch) = batches.blocking_recv() {
        for packet in batch {
            if receiver.packet(packet)? {
                return Ok(());
            }
        }
    }
    Err(Error::Ended)
}

struct Metadata {
    wanted: MetadataFilter,
    buffer: Vec<u8>,
    /// Directories around the last entry that were not made.
    parents: Vec<Stat>,
}

struct Receiver<'a> {
    disk: DiskWriter,
    /// The tree that is there; nothing when merging.
    lower: Option<DirWalk<'a>>,
    lower_next: Option<Stat>,
    outgoing: &'a mpsc::UnboundedSender<Packet>,
    differ: Differ,
    filter: Option<FilterFn>,
    validator: Validator,
    hardlinks: HardlinkCheck,
    metadata: Option<Metadata>,
    next_id: u32,
    all_stats: bool,
    finished: bool,
}

impl Receiver<'_> {
    /// Handles a packet; `true` when it was the last.
    fn packet(&mut self, packet: Packet) -> Result<bool, Error> {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketStat) if self.all_stats => {
                return Err(Error::Protocol("unexpected STAT after the last one".to_owned()));
            }
            Ok(PacketType::PacketStat) => match packet.stat {
                Some(stat) => {
                    let id = self.next_id;
                    self.next_id = self.next_id.wrapping_add(1);
                    self.stat(id, stat)?;
                }
                None => {
                    while let Some(lower) = self.peek_lower()? {
                        self.delete_lower(&lower)?;
                    }
                    self.all_stats = true;
                }
            },
            Ok(PacketType::PacketData) => self.disk.data(packet.id, &packet.data)?,
            Ok(PacketType::PacketFin) if self.finished => return Ok(true),
            Ok(PacketType::PacketFin) => {
                return Err(Error::Protocol("sender finished before all files were sent".to_owned()));
            }
            Ok(PacketType::PacketErr) => {
                return Err(Error::Sender(String::from_utf8_lossy(&packet.data).into_owned()));
            }
            Ok(PacketType::PacketReq) => {
                return Err(Error::Protocol("unexpected REQ from the sender".to_owned()));
            }
            Err(_) => {
                return Err(Error::Protocol(format!("unknown packet type {}", packet.r#type)));
            }
        }
        if self.all_stats && !self.finished && !self.disk.is_waiting() {
            self.disk.finish()?;
            if let Some(metadata) = &self.metadata {
                self.disk.write_root_file(METADATA_FILE, &metadata.buffer)?;
            }
            self.finished = true;
            self.reply(PacketType::PacketFin, 0);
        }
        Ok(false)
    }

    fn reply(&self, kind: PacketType, id: u32) {
        let packet = Packet { r#type: kind as i32, id, ..Packet::default() };
        // A peer that has ended the call does not take it; why it has is among what it sent before.
        let _ = self.outgoing.send(packet);
    }

    fn stat(&mut self, id: u32, stat: Stat) -> Result<(), Error> {
        let Some(metadata) = &mut self.metadata else {
            self.validator.check(&stat)?;
            self.hardlinks.check(&stat)?;
            return self.compare(id, stat);
        };
        if stat.path == METADATA_FILE {
            return Ok(());
        }
        self.validator.check(&stat)?;
        self.hardlinks.check(&stat)?;
        let len =
            u32::try_from(stat.encoded_len()).map_err(|_| Error::Protocol("stat is too large".to_owned()))?;
        metadata.buffer.extend_from_slice(&len.to_le_bytes());
        stat.encode(&mut metadata.buffer)
            .map_err(|error| Error::Protocol(format!("stat cannot be stored: {error}")))?;
        let wanted = (metadata.wanted)(&stat.path, &stat);
        let (dir, _) = crate::confine::split(&stat.path);
        while metadata.parents.last().is_some_and(|parent| parent.path != dir) {
            metadata.parents.pop();
        }
        if !wanted {
            if mode::is_dir(stat.mode) {
                metadata.parents.push(stat);
            }
            return Ok(());
        }
        for parent in std::mem::take(&mut metadata.parents) {
            // Directories are never asked for, so they need no id.
            self.compare(u32::MAX, parent)?;
        }
        self.compare(id, stat)
    }

    /// Compares the next entry of the peer with the tree that is there.
    fn compare(&mut self, id: u32, stat: Stat) -> Result<(), Error> {
        while let Some(lower) = self.peek_lower()? {
            match compare_paths(&lower.path, &stat.path) {
                std::cmp::Ordering::Less => self.delete_lower(&lower)?,
                std::cmp::Ordering::Greater => {
                    self.lower_next = Some(lower);
                    break;
                }
                std::cmp::Ordering::Equal => {
                    let same = match &self.filter {
                        None => self.differ.same(&lower, &stat),
                        Some(filter) => {
                            let mut filtered = stat.clone();
                            filter(&stat.path, &mut filtered);
                            self.differ.same(&lower, &filtered)
                        }
                    };
                    if same {
                        if mode::is_dir(stat.mode) {
                            self.disk.keep_directory(&stat);
                        }
                        return Ok(());
                    }
                    if mode::is_dir(lower.mode)
                        && !mode::is_dir(stat.mode)
                        && let Some(walk) = &mut self.lower
                    {
                        walk.skip_dir();
                    }
                    return self.put(id, stat, Some(&lower));
                }
            }
        }
        self.put(id, stat, None)
    }

    fn put(&mut self, id: u32, stat: Stat, old: Option<&Stat>) -> Result<(), Error> {
        if self.disk.put(id, stat, old)? {
            self.reply(PacketType::PacketReq, id);
        }
        Ok(())
    }

    /// Takes the next entry of the tree that is there.
    fn peek_lower(&mut self) -> Result<Option<Stat>, Error> {
        if let Some(stat) = self.lower_next.take() {
            return Ok(Some(stat));
        }
        let Some(walk) = &mut self.lower else { return Ok(None) };
        loop {
            match walk.next() {
                Ok(None) => {
                    self.lower = None;
                    return Ok(None);
                }
                Ok(Some(_)) => match walk.stat() {
                    Err(error) if error.is_not_found() => walk.skip_dir(),
                    other => return other.map(Some),
                },
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn delete_lower(&mut self, lower: &Stat) -> Result<(), Error> {
        if mode::is_dir(lower.mode)
            && let Some(walk) = &mut self.lower
        {
            walk.skip_dir();
        }
        self.disk.delete(&lower.path)
    }
}
