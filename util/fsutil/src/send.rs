use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buildkit_errdefs::BoxError;
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_fsutil_types::packet::PacketType;
use buildkit_util_fsutil_types::{Packet, Stat};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;

use crate::{Error, FileSystem, HardlinkReset, mode};

/// Is told how many bytes were moved so far, and whether that is all.
pub type Progress = Arc<dyn Fn(u64, bool) + Send + Sync>;

/// How a tree is sent.
#[derive(Clone, Default)]
pub struct SendOptions {
    /// Is told how many bytes of packets were sent.
    pub progress: Option<Progress>,
}

/// Bytes of content in one packet, at most. Go peers take 4 MiB; larger ones than this measure no
/// faster and delay other files.
const CHUNK: usize = 128 << 10;

/// Files that are sent side by side.
const WORKERS: usize = 4;

struct Offered {
    path: String,
    size: u64,
}

struct Shared {
    fs: Arc<dyn FileSystem>,
    outgoing: mpsc::Sender<Packet>,
    /// Files that may be asked for, once each, with the sizes that were told.
    files: Mutex<HashMap<u32, Offered>>,
    sent: AtomicU64,
    progress: Option<Progress>,
}

impl Shared {
    fn send(&self, packet: Packet) -> Result<(), Error> {
        let size = packet.encoded_len() as u64;
        self.outgoing.blocking_send(packet).map_err(|_| Error::Ended)?;
        let total = self.sent.fetch_add(size, Ordering::Relaxed) + size;
        if let Some(progress) = &self.progress {
            progress(total, false);
        }
        Ok(())
    }

    /// Sends the attributes of all entries.
    fn send_stats(&self) -> Result<(), Error> {
        let mut walk = self.fs.walk("")?;
        let mut hardlinks = HardlinkReset::default();
        let mut id = 0u32;
        loop {
            let mut stat = match walk.next() {
                Ok(None) => break,
                Ok(Some(_)) => match walk.stat() {
                    Ok(stat) => stat,
                    Err(error) if error.is_not_found() => {
                        walk.skip_dir();
                        continue;
                    }
                    Err(error) => return Err(error),
                },
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            hardlinks.apply(&mut stat);
            if mode::is_regular(stat.mode) {
                let size = u64::try_from(stat.size).unwrap_or(0);
                self.files.lock().insert(id, Offered { path: stat.path.clone(), size });
            }
            id = id.checked_add(1).ok_or_else(|| Error::Protocol("too many files".to_owned()))?;
            self.send_stat(Some(stat))?;
        }
        self.send_stat(None)
    }

    fn send_stat(&self, stat: Option<Stat>) -> Result<(), Error> {
        self.send(Packet { r#type: PacketType::PacketStat as i32, stat, ..Packet::default() })
    }

    /// Sends the content of a file, as much as was told: what is appended meanwhile, without end
    /// perhaps, is for the next time.
    fn send_file(&self, id: u32, offered: &Offered, buffer: &mut [u8]) -> Result<(), Error> {
        let Offered { path, size } = offered;
        let mut file = match self.fs.open(path) {
            Ok(file) => file,
            // What had no content is told completely. Sockets are offered as such files.
            Err(_) if *size == 0 => return self.send_data(id, Bytes::new()),
            Err(error @ Error::Io { .. }) if !error.is_permission() => {
                return Err(Error::changed(path, error.to_string()));
            }
            Err(error) => return Err(error),
        };
        // Some file systems do not know sizes before content is read.
        let limit = if *size == 0 { u64::MAX } else { *size };
        let mut sent = 0;
        while sent < limit {
            let part = usize::try_from(limit - sent).map_or(buffer.len(), |left| left.min(buffer.len()));
            let len =
                fill(&mut *file, &mut buffer[..part]).map_err(|error| Error::io("read", path, error))?;
            if len == 0 {
                break;
            }
            self.send_data(id, Bytes::copy_from_slice(&buffer[..len]))?;
            sent += len as u64;
        }
        if sent < *size {
            return Err(Error::changed(path, format!("it has {sent} of {size} bytes")));
        }
        self.send_data(id, Bytes::new())
    }

    /// Tells the peer why nothing more comes.
    fn send_error(&self, error: &Error) {
        let data = error.to_string().into_bytes().into();
        let kind = PacketType::PacketErr as i32;
        // If the peer is gone, nobody needs to know.
        let _ = self.send(Packet { r#type: kind, data, ..Packet::default() });
    }

    fn send_data(&self, id: u32, data: Bytes) -> Result<(), Error> {
        self.send(Packet { r#type: PacketType::PacketData as i32, id, data, ..Packet::default() })
    }
}

/// Reads a chunk, or what is left.
fn fill(file: &mut (dyn Read + Send), buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Offers a tree to a peer and sends the files that it asks for. Returns when the peer has all it
/// wants and was told so; then `outgoing` is closed. What follows on `incoming` (the end of the call)
/// is left to the caller.
///
/// # Errors
/// Those of the tree, the peer and the connection. The peer is told.
pub async fn send<S, E>(
    fs: Arc<dyn FileSystem>,
    incoming: &mut S,
    outgoing: mpsc::Sender<Packet>,
    options: SendOptions,
) -> Result<(), Error>
where
    S: Stream<Item = Result<Packet, E>> + Unpin + Send,
    E: Into<BoxError>,
{
    let shared = Arc::new(Shared {
        fs,
        outgoing,
        files: Mutex::new(HashMap::new()),
        sent: AtomicU64::new(0),
        progress: options.progress,
    });
    let result = serve(&shared, incoming).await;
    if let Some(progress) = &shared.progress {
        progress(shared.sent.load(Ordering::Relaxed), true);
    }
    result
}

async fn serve<S, E>(shared: &Arc<Shared>, incoming: &mut S) -> Result<(), Error>
where
    S: Stream<Item = Result<Packet, E>> + Unpin + Send,
    E: Into<BoxError>,
{
    let mut tasks = FuturesUnordered::new();
    let walker = shared.clone();
    tasks.push(spawn_blocking(move || walker.send_stats().inspect_err(|error| walker.send_error(error))));
    // The peer may ask for all files before it takes the first one. It can ask for each only once.
    let (requests, queue) = std::sync::mpsc::channel::<(u32, Offered)>();
    let queue = Arc::new(Mutex::new(queue));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS);
    for _ in 0..workers {
        let (shared, queue) = (shared.clone(), queue.clone());
        tasks.push(spawn_blocking(move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                let next = queue.lock().recv();
                let Ok((id, offered)) = next else { return Ok(()) };
                shared.send_file(id, &offered, &mut buffer).inspect_err(|error| shared.send_error(error))?;
            }
        }));
    }
    loop {
        let packet = tokio::select! {
            packet = incoming.next() => packet,
            Some(ended) = tasks.next(), if !tasks.is_empty() => {
                ended.map_err(Error::Task)??;
                continue;
            }
        };
        let packet = match packet {
            Some(packet) => packet.map_err(|error| Error::Transport(error.into()))?,
            None => return Err(Error::Ended),
        };
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketReq) => {
                let Some(offered) = shared.files.lock().remove(&packet.id) else {
                    return Err(Error::Protocol(format!("invalid file id {}", packet.id)));
                };
                // Fails only when the workers have failed, which is seen above.
                let _ = requests.send((packet.id, offered));
            }
            Ok(PacketType::PacketFin) => break,
            Ok(PacketType::PacketErr) => {
                return Err(Error::Receiver(String::from_utf8_lossy(&packet.data).into_owned()));
            }
            _ => return Err(Error::Protocol(format!("unexpected packet type {}", packet.r#type))),
        }
    }
    drop(requests);
    while let Some(ended) = tasks.next().await {
        ended.map_err(Error::Task)??;
    }
    let fin = Packet { r#type: PacketType::PacketFin as i32, ..Packet::default() };
    shared.outgoing.send(fin).await.map_err(|_| Error::Ended)
}
