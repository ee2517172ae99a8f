use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_util_appcontext as tasks;
use buildkit_util_ocispec::Descriptor;
use bytes::Bytes;
use futures::stream::AbortHandle;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::port::{BlobInfo, ContentStore, Error, Expected};

/// Bytes that are read from a store at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that wait between two tasks.
const WAITING: usize = 4;

/// The bytes of a blob as they arrive. Ends with an error if not all of them came.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// Gives the bytes of blobs, from wherever they are. Nothing is verified: who keeps them does that.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The bytes of a blob from `offset` to its end.
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error>;
}

/// The layers of an image, lowest first, and where their bytes are had.
#[derive(Clone)]
pub struct Remote {
    /// The layers.
    pub descriptors: Vec<Descriptor>,
    /// Gives their bytes.
    pub provider: Arc<dyn Provider>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("descriptors", &self.descriptors).finish_non_exhaustive()
    }
}

/// Gives what is in a store.
#[derive(Clone)]
pub struct StoreProvider(pub Arc<dyn ContentStore>);

#[async_trait]
impl Provider for StoreProvider {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        let (store, digest, size) = (self.0.clone(), blob.digest.clone(), blob.size);
        let opened = tasks::spawn_blocking(move || -> Result<_, Error> {
            let mut reader = store.open(&digest, Some(size))?;
            if offset > 0 {
                reader.seek(SeekFrom::Start(offset)).map_err(Error::io(format!("read blob `{digest}`")))?;
            }
            Ok(reader)
        });
        let mut reader = opened.await.unwrap_or_else(|error| Err(interrupted(&error)))?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let action = format!("read blob `{}`", blob.digest);
        tasks::detach_blocking("read a blob", move || {
            loop {
                let mut chunk = vec![0u8; CHUNK];
                let sent = match reader.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(len) => {
                        chunk.truncate(len);
                        sender.blocking_send(Ok(Bytes::from(chunk))).is_ok()
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
                    Err(error) => {
                        // Nobody listens: then nobody needs to know.
                        let _ = sender.blocking_send(Err(Error::io(action)(error)));
                        return;
                    }
                };
                if !sent {
                    return;
                }
            }
        });
        Ok(stream_of(receiver))
    }
}

/// Tries providers in turn: the first that has a blob gives it.
pub struct MultiProvider(pub Vec<Arc<dyn Provider>>);

#[async_trait]
impl Provider for MultiProvider {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        let mut failed = Error::NotFound(blob.digest.clone());
        for provider in &self.0 {
            match provider.read(blob, offset).await {
                Ok(stream) => return Ok(stream),
                // What a provider has to say tells more than that another has not got it.
                Err(Error::NotFound(_)) => {}
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

fn stream_of(mut receiver: mpsc::Receiver<Result<Bytes, Error>>) -> BlobStream {
    Box::pin(futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)))
}

fn interrupted(error: &dyn fmt::Display) -> Error {
    Error::io("read a blob")(io::Error::other(error.to_string()))
}

/// Reads a stream in code that blocks. Dropping it ends the transfer.
pub struct StreamReader {
    receiver: mpsc::Receiver<Result<Bytes, Error>>,
    chunk: Bytes,
    /// Why the stream ended, for those who need more than an `io::Error`.
    error: Option<Error>,
}

impl StreamReader {
    /// Reads a stream, which a task of the current runtime drives.
    pub fn new(mut stream: BlobStream) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tasks::detach("transfer of a blob", async move {
            loop {
                let item = tokio::select! {
                    item = stream.next() => item,
                    () = sender.closed() => return,
                };
                let Some(item) = item else { return };
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        Self { receiver, chunk: Bytes::new(), error: None }
    }

    /// Takes the error that ended the stream, after a read failed.
    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    let text = error.to_string();
                    self.error = Some(error);
                    return Err(io::Error::other(text));
                }
            }
        }
        let len = self.chunk.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.chunk.split_to(len));
        Ok(len)
    }
}

/// Ends a stream when nobody waits for what becomes of it.
struct EndOnDrop(AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Fetches a blob into a store, verified, and tells how many bytes there are so far. What is in the store
/// is not fetched again. Who leaves ends the transfer.
///
/// # Errors
/// Those of the provider and of the store, [`Error::Mismatch`] among them.
pub async fn fetch(
    provider: &dyn Provider,
    blob: &Descriptor,
    store: &Arc<dyn ContentStore>,
    told: impl Fn(u64) + Send + 'static,
) -> Result<BlobInfo, Error> {
    let (known, digest) = (store.clone(), blob.digest.clone());
    let present = tasks::spawn_blocking(move || known.info(&digest));
    if let Ok(Ok(info)) = present.await
        && info.size == blob.size
    {
        told(info.size);
        return Ok(info);
    }
    // A thread cannot be stopped; what it reads can be.
    let (stream, end) = futures::stream::abortable(provider.read(blob, 0).await?);
    let _end = EndOnDrop(end);
    let mut reader = StreamReader::new(Box::pin(stream));
    let (store, blob) = (store.clone(), blob.clone());
    let stored = tasks::spawn_blocking(move || -> Result<BlobInfo, Error> {
        let expected = Expected { digest: Some(blob.digest.clone()), size: Some(blob.size) };
        let mut ingester = store.ingest(expected)?;
        let mut chunk = vec![0u8; CHUNK];
        loop {
            let len = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) => {
                    let failed = Error::io(format!("fetch blob `{}`", blob.digest));
                    return Err(reader.take_error().unwrap_or_else(|| failed(error)));
                }
            };
            ingester.write_all(&chunk[..len]).map_err(Error::io(format!("store blob `{}`", blob.digest)))?;
            told(ingester.len());
        }
        ingester.commit()
    });
    stored.await.unwrap_or_else(|error| Err(interrupted(&error)))
}

/// All bytes of a small blob, verified.
///
/// # Errors
/// Those of the provider, and [`Error::Mismatch`] when what came is not the blob.
pub async fn read_all(provider: &dyn Provider, blob: &Descriptor) -> Result<Bytes, Error> {
    if !blob.data.is_empty() && blob.digest.algorithm() == "sha256" {
        let data = Bytes::from(blob.data.clone());
        verify(blob, &data)?;
        return Ok(data);
    }
    let mut stream = provider.read(blob, 0).await?;
    let mut data = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0).min(1 << 20));
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if (data.len() + chunk.len()) as u64 > blob.size {
            let more = data.len() + chunk.len();
            return Err(Error::mismatch(&blob.digest, "size", blob.size, format!("{more} or more")));
        }
        data.extend_from_slice(&chunk);
    }
    verify(blob, &data)?;
    Ok(data.into())
}

fn verify(blob: &Descriptor, data: &[u8]) -> Result<(), Error> {
    crate::port::require_sha256(&blob.digest)?;
    if data.len() as u64 != blob.size {
        return Err(Error::mismatch(&blob.digest, "size", blob.size, data.len()));
    }
    let found = buildkit_util_cachedigest::Digest::sha256(data);
    if found != blob.digest {
        return Err(Error::mismatch(&blob.digest, "digest", &blob.digest, found));
    }
    Ok(())
}

/// Stores small bytes.
///
/// # Errors
/// When the file system refuses.
pub async fn store_bytes(store: &Arc<dyn ContentStore>, bytes: impl Into<Bytes>) -> Result<BlobInfo, Error> {
    let (store, bytes) = (store.clone(), bytes.into());
    let stored = tasks::spawn_blocking(move || {
        let mut ingester = store.ingest(Expected { digest: None, size: Some(bytes.len() as u64) })?;
        ingester.write_all(&bytes).map_err(Error::io("store a blob"))?;
        ingester.commit()
    });
    stored.await.unwrap_or_else(|error| Err(interrupted(&error)))
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use parking_lot::Mutex;
    use tokio::sync::oneshot;

    use super::*;
    use crate::MemoryStore;

    struct Chunks(Vec<Result<&'static [u8], &'static str>>);

    #[async_trait]
    impl Provider for Chunks {
        async fn read(&self, _: &Descriptor, _: u64) -> Result<BlobStream, Error> {
            let items: Vec<_> = self
                .0
                .iter()
                .map(|item| {
                    item.map(Bytes::from_static).map_err(|text| Error::io("read")(io::Error::other(text)))
                })
                .collect();
            Ok(Box::pin(futures::stream::iter(items)))
        }
    }

    #[tokio::test]
    async fn blobs_are_fetched_and_verified() {
        let store: Arc<dyn ContentStore> = Arc::new(MemoryStore::default());
        let blob = Descriptor::of("x", b"hello");
        let good = Chunks(vec![Ok(b"hel"), Ok(b"lo")]);
        assert_eq!(fetch(&good, &blob, &store, |_| {}).await.unwrap().size, 5);
        // It is there: nobody is asked.
        assert!(fetch(&Chunks(vec![Err("asked")]), &blob, &store, |_| {}).await.is_ok());
        assert_eq!(read_all(&StoreProvider(store.clone()), &blob).await.unwrap(), "hello");
        let mut rest = StoreProvider(store.clone()).read(&blob, 3).await.unwrap();
        assert_eq!(rest.next().await.unwrap().unwrap(), "lo");
        assert!(rest.next().await.is_none());

        let other = Descriptor::of("x", b"world");
        for bad in
            [vec![Ok(&b"worlx"[..])], vec![Ok(b"worl")], vec![Ok(b"world"), Ok(b"!")], vec![Err("lost")]]
        {
            let bad = Chunks(bad);
            assert!(fetch(&bad, &other, &store, |_| {}).await.is_err());
            assert!(read_all(&bad, &other).await.is_err());
            assert!(store.info(&other.digest).is_err());
        }
    }

    /// Gives one chunk and then nothing; tells when it is read, and that it is not any more when it is dropped.
    struct Stalled(Mutex<Option<(oneshot::Sender<()>, oneshot::Sender<()>)>>);

    #[async_trait]
    impl Provider for Stalled {
        async fn read(&self, _: &Descriptor, _: u64) -> Result<BlobStream, Error> {
            let (read, ended) = self.0.lock().take().expect("one read");
            let mut read = Some(read);
            Ok(Box::pin(futures::stream::poll_fn(move |_| {
                // Goes with the stream.
                let _ = &ended;
                match read.take() {
                    Some(read) => {
                        read.send(()).expect("the test waits");
                        Poll::Ready(Some(Ok(Bytes::from_static(b"hel"))))
                    }
                    None => Poll::Pending,
                }
            })))
        }
    }

    #[tokio::test]
    async fn who_leaves_ends_the_transfer() {
        let store: Arc<dyn ContentStore> = Arc::new(MemoryStore::default());
        let blob = Descriptor::of("x", b"hello");
        let ((read, is_read), (ended, is_ended)) = (oneshot::channel(), oneshot::channel());
        let provider = Stalled(Mutex::new(Some((read, ended))));
        tokio::select! {
            result = fetch(&provider, &blob, &store, |_| {}) => panic!("{result:?}"),
            result = is_read => result.expect("told"),
        }
        // The stream is dropped, and what it told with.
        is_ended.await.expect_err("nothing is sent");
        assert!(store.info(&blob.digest).is_err());
    }

    #[tokio::test]
    async fn the_first_that_has_a_blob_gives_it() {
        let blob = Descriptor::of("x", b"hello");
        let empty: Arc<dyn Provider> = Arc::new(StoreProvider(Arc::new(MemoryStore::default())));
        let good: Arc<dyn Provider> = Arc::new(Chunks(vec![Ok(b"hello")]));
        let both = MultiProvider(vec![empty.clone(), good]);
        assert_eq!(read_all(&both, &blob).await.unwrap(), "hello");
        assert!(matches!(read_all(&MultiProvider(vec![empty]), &blob).await, Err(Error::NotFound(_))));
    }
}
