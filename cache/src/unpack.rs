//! Makes files of layers that are known as blobs: fetched and unpacked at the same time, several layers side
//! by side where snapshots can be filled before their parents are there.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buildkit_snapshot::{ActiveKey, Form, SnapshotName};
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_archive::{self as archive, ApplyOptions, Whiteouts};
use buildkit_util_cachedigest::HashingReader;
use buildkit_util_compression::{Limits, detect, limited_decoder};
use buildkit_util_contentutil::{
    self as contentutil, BlobInfo, ContentStore, Expected, Ingester, Provider, StoreProvider, StreamReader,
};
use buildkit_util_flightcontrol::Group;
use buildkit_util_ocispec::Descriptor;
use buildkit_util_progress::Part;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::blobs::BlobSource;
use crate::manager::{Cleanup, Inner, shared, uncancelled};
use crate::record::{Parents, State};
use crate::refs::Handle;
use crate::{Error, LayerBlob, RefId};

/// Layers that are unpacked at the same time.
pub(crate) const UNPACKERS: usize = 4;

/// A layer that was unpacked into a snapshot which is not committed yet. Dropping it discards the snapshot.
pub(crate) struct Unpacked {
    inner: Arc<Inner>,
    /// `None` once it is committed.
    key: Mutex<Option<ActiveKey>>,
    /// Its snapshot has no parent yet.
    early: bool,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Some(key) = self.key.get_mut().take() {
            self.inner.send(Cleanup::Discard(key));
        }
    }
}

/// What becomes of a layer that is unpacked before its parent is there.
#[derive(Clone)]
pub(crate) enum Early {
    Done(Arc<Unpacked>),
    /// It refers to files of its parents, and has to wait for them.
    NeedsParent,
}

/// Layers that are being unpacked, by their records.
pub(crate) type Unpacks = Group<RefId, Result<Early, Arc<Error>>>;

impl Inner {
    /// The committed snapshot of a record that is held and whose files are in a blob.
    pub(crate) async fn unpack(self: &Arc<Self>, id: &RefId) -> Result<SnapshotName, Error> {
        let (chain, below) = self.packed(id)?;
        if chain.is_empty() {
            // Others have made it meanwhile.
            return Box::pin(self.materialize(id)).await;
        }
        // What it is made of stays, even if whoever asked lets go of it.
        let handles: Vec<Handle> = chain
            .iter()
            .map(|id| {
                self.graph.lock().acquire(id)?;
                Ok(Handle { inner: self.clone(), id: id.clone() })
            })
            .collect::<Result<_, Error>>()?;
        let below = async {
            match &below {
                Some(below) => Ok::<_, Error>(Some(Box::pin(self.materialize(below)).await?)),
                None => Ok(None),
            }
        };
        let unpacked = match self.snapshotter.form() {
            Form::Whole => {
                let mut parent = below.await?;
                for handle in &handles {
                    parent = Some(self.settle(&handle.id, parent, None).await?);
                }
                parent
            }
            Form::Changes { .. } => {
                let ids: Vec<RefId> = handles.iter().map(|handle| handle.id.clone()).collect();
                let inner = self.clone();
                let unpack = move |id: RefId| {
                    let inner = inner.clone();
                    async move {
                        let (group, key) = (inner.clone(), id.clone());
                        let work =
                            move || shared("unpack a layer", async move { inner.unpack_early(&key).await });
                        let early = group.unpacks.run(id.clone(), work).await;
                        (id, early)
                    }
                };
                let mut early = futures::stream::iter(ids).map(unpack).buffered(UNPACKERS);
                let committed = async {
                    let (mut parent, mut below) = (None, Some(below));
                    while let Some((id, early)) = early.next().await {
                        // Layers are unpacked while those below them are made.
                        if let Some(below) = below.take() {
                            parent = below.await?;
                        }
                        parent = Some(self.settle(&id, parent, Some(early.map_err(Error::Shared)?)).await?);
                    }
                    Ok::<_, Error>(parent)
                };
                committed.await?
            }
        };
        unpacked.ok_or_else(|| Error::NotFound(id.clone()))
    }

    /// The records down from `id` whose files are in blobs, lowest first, and the one below them.
    fn packed(&self, id: &RefId) -> Result<(Vec<RefId>, Option<RefId>), Error> {
        let graph = self.graph.lock();
        let (mut chain, mut at) = (Vec::new(), Some(id.clone()));
        while let Some(id) = &at {
            let record = graph.get(id)?;
            match (&record.state, &record.parents) {
                (State::Lazy, Parents::Layer(parent)) => {
                    chain.push(id.clone());
                    at = parent.clone();
                }
                _ => break,
            }
        }
        chain.reverse();
        Ok((chain, at))
    }

    /// Unpacks a layer into a snapshot without a parent.
    async fn unpack_early(self: &Arc<Self>, id: &RefId) -> Result<Early, Error> {
        let _permit = self.unpackers.acquire().await;
        let (is_lazy, has_parent) = {
            let graph = self.graph.lock();
            let record = graph.get(id)?;
            (matches!(record.state, State::Lazy), matches!(record.parents, Parents::Layer(Some(_))))
        };
        if !is_lazy {
            return Ok(Early::NeedsParent);
        }
        let whiteouts = match self.snapshotter.form() {
            Form::Changes { userxattr } if has_parent => Whiteouts::Overlay { userxattr },
            _ => Whiteouts::Remove,
        };
        match self.unpack_onto(id, None, whiteouts).await {
            Ok(unpacked) => Ok(Early::Done(Arc::new(unpacked))),
            Err(Error::NeedsParent) => Ok(Early::NeedsParent),
            Err(error) => Err(error),
        }
    }

    /// Commits a layer on top of its parent; unpacks it first, unless that was done early.
    async fn settle(
        self: &Arc<Self>,
        id: &RefId,
        parent: Option<SnapshotName>,
        early: Option<Early>,
    ) -> Result<SnapshotName, Error> {
        let gate = self.graph.lock().get(id)?.gate.clone();
        let gate = gate.lock_owned().await;
        if let State::Ready { snapshot } = &self.graph.lock().get(id)?.state {
            return Ok(snapshot.clone());
        }
        let unpacked = match early {
            Some(Early::Done(unpacked)) if unpacked.key.lock().is_some() => unpacked,
            _ => {
                let made = self.unpack_onto(id, parent.as_ref(), Whiteouts::Remove).await?;
                Arc::new(made)
            }
        };
        // One that was not unpacked early is on its parent already.
        let parent = parent.filter(|_| unpacked.early);
        let (inner, id) = (self.clone(), id.clone());
        uncancelled("commit an unpacked layer", async move {
            let _gate = gate;
            let Some(key) = unpacked.key.lock().clone() else { return Err(Error::NotFound(id)) };
            let failed = || Error::snapshot(format!("commit cache record `{id}`"));
            if let Some(parent) = &parent {
                inner.snapshotter.rebase(&key, parent, true).await.map_err(failed())?;
            }
            let snapshot = SnapshotName(id.as_str().to_owned());
            let usage = inner.snapshotter.commit(&snapshot, &key).await.map_err(failed())?;
            unpacked.key.lock().take();
            inner.update(&id, |record| {
                record.state = State::Ready { snapshot: snapshot.clone() };
                record.facts.size = Some(usage.size);
            })?;
            Ok(snapshot)
        })
        .await
    }

    /// Unpacks a layer into a new snapshot on `parent`, from the store or from whoever offers its blob.
    async fn unpack_onto(
        self: &Arc<Self>,
        id: &RefId,
        parent: Option<&SnapshotName>,
        whiteouts: Whiteouts,
    ) -> Result<Unpacked, Error> {
        let blob = self.graph.lock().get(id)?.facts.blob.clone();
        let blob = blob.ok_or_else(|| Error::NotFound(id.clone()))?;
        let digest = &blob.descriptor.digest;
        let gate = self.gate(digest);
        let mut fetching = Some(gate.lock().await);
        let mut failed = Error::NoSource(digest.clone());
        if self.is_stored(digest) {
            // Others may read it at the same time.
            fetching = None;
            let store: Arc<dyn Provider> = Arc::new(StoreProvider(self.content.clone()));
            match self.unpack_from(id, &blob, parent, whiteouts, From::Store(store)).await {
                Err(error) if error.is_lost_blob() => {
                    self.note_lost(digest);
                    failed = error;
                }
                unpacked => return unpacked,
            }
        }
        if fetching.is_none() {
            fetching = Some(gate.lock().await);
        }
        for source in self.sources(digest) {
            let from = From::Source(source);
            match self.unpack_from(id, &blob, parent, whiteouts, from).await {
                // That it needs its parent was found after all of it had come.
                Err(Error::NeedsParent) => return Err(Error::NeedsParent),
                Err(error) => failed = error,
                unpacked => return unpacked,
            }
        }
        drop(fetching);
        Err(failed)
    }

    async fn unpack_from(
        self: &Arc<Self>,
        id: &RefId,
        blob: &LayerBlob,
        parent: Option<&SnapshotName>,
        whiteouts: Whiteouts,
        from: From,
    ) -> Result<Unpacked, Error> {
        let digest = &blob.descriptor.digest;
        let key = ActiveKey(format!("unpack {id} {}", RefId::random()));
        let failed = || Error::snapshot(format!("make a snapshot for layer `{digest}`"));
        self.snapshotter.prepare(&key, parent).await.map_err(failed())?;
        let unpacked = Unpacked {
            inner: self.clone(),
            key: Mutex::new(Some(key.clone())),
            early: whiteouts != Whiteouts::Remove,
        };
        let mount = self.snapshotter.mounts(&key).await.map_err(failed())?;
        // What is not a plain directory is mounted, so that the kernel does what a layer on others takes.
        let mounted = self.mount_local(mount, false).await?;
        let (provider, source) = match from {
            From::Store(provider) => (provider, None),
            From::Source(source) => (source.provider.clone(), Some(source)),
        };
        let stream = provider.read(&blob.descriptor, 0).await.map_err(|error| Error::blob(digest, error))?;
        // A thread cannot be stopped; what it reads can be.
        let cancelled = CancellationToken::new();
        let _cancel = cancelled.clone().drop_guard();
        let reader = StreamReader::new(Box::pin(stream.take_until(cancelled.cancelled_owned())));
        let progress = source.as_ref().map(|source| source.progress.clone());
        let progress = progress.unwrap_or_else(|| {
            let told = self.sources(digest).first().map(|source| source.progress.clone());
            told.unwrap_or_else(buildkit_util_progress::Writer::discard)
        });
        let extracting = progress.start(&format!("extracting {digest}"));
        let ingester = match &source {
            Some(_) => Some(ingest(&self.content, blob)?),
            None => None,
        };
        let transfer = Transfer {
            reader,
            ingester,
            part: source.as_ref().map(|source| source.progress.start(digest.as_str())),
            total: blob.descriptor.size,
            count: 0,
            told: Instant::now(),
        };
        let (inner, blob) = (self.clone(), blob.clone());
        let work = spawn_blocking(move || {
            // Unmounted before the snapshot is committed or discarded.
            let mounted = mounted;
            apply(&inner, &blob, transfer, mounted.path(), whiteouts).map(|()| unpacked)
        });
        let result = work.await.unwrap_or_else(|error| {
            Err(Error::Interrupted { action: "unpack a layer", reason: error.to_string() })
        });
        extracting.done(0, 0);
        result
    }
}

/// Where a layer is unpacked from.
enum From {
    Store(Arc<dyn Provider>),
    Source(BlobSource),
}

fn ingest(content: &Arc<dyn ContentStore>, blob: &LayerBlob) -> Result<Box<dyn Ingester>, Error> {
    let Descriptor { digest, size, .. } = &blob.descriptor;
    let expected = Expected { digest: Some(digest.clone()), size: Some(*size) };
    content.ingest(expected).map_err(|error| Error::blob(digest, error))
}

/// Time between two reports of how much has come.
const REPORT: Duration = Duration::from_millis(100);

/// The compressed bytes of a layer: stored as they are read.
struct Transfer {
    reader: StreamReader,
    ingester: Option<Box<dyn Ingester>>,
    part: Option<Part>,
    total: u64,
    count: u64,
    told: Instant,
}

impl Transfer {
    fn tell(&self, part: &Part) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        part.update(number(self.count), number(self.total));
    }

    /// Stores what is left, and the blob if it is the right one.
    fn finish(mut self) -> Result<Option<BlobInfo>, contentutil::Error> {
        let copied = io::copy(&mut self, &mut io::sink());
        if let Err(error) = copied {
            return Err(self.reader.take_error().unwrap_or_else(|| contentutil::Error::from_io(error)));
        }
        let stored = self.ingester.take().map(Ingester::commit).transpose();
        if let Some(part) = self.part.take() {
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            part.done(number(self.count), number(self.total));
        }
        stored
    }
}

impl Read for Transfer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        if let Some(ingester) = &mut self.ingester {
            ingester.write_all(&buffer[..len])?;
        }
        self.count += len as u64;
        if let Some(part) = &self.part
            && self.told.elapsed() > REPORT
        {
            self.tell(part);
            self.told = Instant::now();
        }
        Ok(len)
    }
}

/// Unpacks a layer into a directory and stores its blob; checks both digests.
fn apply(
    inner: &Inner,
    blob: &LayerBlob,
    mut transfer: Transfer,
    root: &Path,
    whiteouts: Whiteouts,
) -> Result<(), Error> {
    let digest = &blob.descriptor.digest;
    let failed = |error| Error::blob(digest, error);
    let broken = |error: io::Error| Error::blob(digest, contentutil::Error::from_io(error));
    let (applied, found) = {
        let mut input = BufReader::with_capacity(256 << 10, &mut transfer);
        let kind = match input.fill_buf() {
            Ok(start) => detect(start),
            Err(error) => {
                return Err(failed(
                    transfer.reader.take_error().unwrap_or_else(|| contentutil::Error::from_io(error)),
                ));
            }
        };
        let decoded = limited_decoder(kind, input, Limits::default()).map_err(broken)?;
        let mut hashing = HashingReader::new(decoded);
        let applied = archive::apply_layer(root, &mut hashing, &ApplyOptions::new(whiteouts));
        (applied, hashing.finish())
    };
    match applied {
        Ok(_) => {
            let stored = transfer.finish().map_err(failed)?;
            if let Some(info) = stored {
                inner.note_stored(&info.digest, info.size);
            }
            if found != blob.diff_id {
                return Err(Error::WrongLayer {
                    digest: digest.clone(),
                    expected: blob.diff_id.clone(),
                    found,
                });
            }
            Ok(())
        }
        Err(archive::Error::NeedsLower(_)) => {
            if let Some(info) = transfer.finish().map_err(failed)? {
                inner.note_stored(&info.digest, info.size);
            }
            Err(Error::NeedsParent)
        }
        Err(error) => match transfer.reader.take_error() {
            Some(error) => Err(failed(error)),
            None => Err(Error::Unpack { digest: digest.clone(), source: error }),
        },
    }
}
