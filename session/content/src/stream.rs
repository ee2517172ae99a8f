use std::io::{Read as _, SeekFrom};
use std::sync::Arc;

use buildkit_session_pb::content::ReadContentResponse;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{BlobStream, ContentStore, Error, ReadBlob};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tonic::Status;

use crate::CHUNK;
use crate::ingests::signed;
use crate::service::{blocking, status_of};

/// A part of a blob as messages, of which one is held at most.
pub(crate) async fn read_part(
    store: Arc<dyn ContentStore>,
    digest: Digest,
    offset: u64,
    size: Option<u64>,
) -> Result<impl Stream<Item = Result<ReadContentResponse, Status>> + Send + use<>, Status> {
    let text = format!("Failed to read blob `{digest}`");
    let failed = move |error: std::io::Error| Status::internal(format!("{text}: {error}"));
    let first_failed = failed.clone();
    let start = blocking(move || {
        let length = store.info(&digest).map_err(|error| status_of(&error))?.size;
        let Some(rest) = length.checked_sub(offset) else {
            return Err(Status::out_of_range(format!("read past object length {length} bytes")));
        };
        let mut reader = store.open(&digest, None).map_err(|error| status_of(&error))?;
        if offset > 0 {
            reader.seek(SeekFrom::Start(offset)).map_err(&first_failed)?;
        }
        // Go's clients ask for small parts, one call each: one visit of a thread is enough for such.
        let part = Part { reader, sent: 0, left: size.map_or(rest, |size| size.min(rest)) };
        part.read().map_err(first_failed)
    })
    .await?;
    let (first, part) = start;
    let first = Some(first).filter(|chunk| !chunk.is_empty());
    Ok(futures::stream::try_unfold((first, part, failed), |(first, part, failed)| async move {
        let (data, part) = match first {
            Some(first) => (first, part),
            None if part.left == 0 => return Ok(None),
            None => {
                let failed = failed.clone();
                blocking(move || part.read().map_err(failed)).await?
            }
        };
        let offset = signed(part.sent - data.len() as u64);
        Ok(Some((ReadContentResponse { offset, data }, (None, part, failed))))
    }))
}

/// A part of a blob that is being read.
struct Part {
    reader: Box<dyn ReadBlob>,
    sent: u64,
    left: u64,
}

impl Part {
    /// The next chunk.
    fn read(mut self) -> std::io::Result<(Bytes, Self)> {
        let len = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; len];
        self.reader.read_exact(&mut chunk)?;
        (self.sent, self.left) = (self.sent + len as u64, self.left - len as u64);
        Ok((chunk.into(), self))
    }
}

/// Makes chunks of the best size for messages from those of a stream.
pub(crate) struct Chunks {
    /// `None` when it has ended.
    stream: Option<BlobStream>,
    buffer: BytesMut,
    rest: Bytes,
}

impl Chunks {
    pub(crate) fn new(stream: BlobStream) -> Self {
        Self { stream: Some(stream), buffer: BytesMut::new(), rest: Bytes::new() }
    }

    /// The next chunk; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.buffer.is_empty() && self.rest.len() >= CHUNK {
                return Ok(Some(self.rest.split_to(CHUNK)));
            }
            let take = self.rest.len().min(CHUNK - self.buffer.len());
            self.buffer.extend_from_slice(&self.rest.split_to(take));
            if self.buffer.len() == CHUNK {
                return Ok(Some(self.buffer.split().freeze()));
            }
            let next = match &mut self.stream {
                Some(stream) => stream.next().await,
                None => None,
            };
            match next {
                Some(bytes) => self.rest = bytes?,
                None => {
                    self.stream = None;
                    let last = self.buffer.split().freeze();
                    return Ok(if last.is_empty() { None } else { Some(last) });
                }
            }
        }
    }
}
