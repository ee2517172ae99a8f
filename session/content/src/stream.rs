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

/// A part of a blob as messages. Nothing is read ahead, so that one message is held at most.
pub(crate) async fn read_part(
    store: Arc<dyn ContentStore>,
    digest: Digest,
    offset: u64,
    size: Option<u64>,
) -> Result<impl Stream<Item = Result<ReadContentResponse, Status>> + Send + use<>, Status> {
    let text = format!("Failed to read blob `{digest}`");
    let failed = move |error: std::io::Error| Status::internal(format!("{text}: {error}"));
    let seek_failed = failed.clone();
    let (reader, left) = blocking(move || {
        let length = store.info(&digest).map_err(|error| status_of(&error))?.size;
        let Some(rest) = length.checked_sub(offset) else {
            return Err(Status::out_of_range(format!("read past object length {length} bytes")));
        };
        let mut reader = store.open(&digest, None).map_err(|error| status_of(&error))?;
        if offset > 0 {
            reader.seek(SeekFrom::Start(offset)).map_err(seek_failed)?;
        }
        Ok((reader, size.map_or(rest, |size| size.min(rest))))
    })
    .await?;
    Ok(futures::stream::try_unfold((reader, 0, left), move |(reader, sent, left)| {
        let failed = failed.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let (reader, data) = blocking(move || read_chunk(reader, left).map_err(failed)).await?;
            let (next, left) = (sent + data.len() as u64, left - data.len() as u64);
            Ok(Some((ReadContentResponse { offset: signed(sent), data }, (reader, next, left))))
        }
    }))
}

fn read_chunk(mut reader: Box<dyn ReadBlob>, left: u64) -> std::io::Result<(Box<dyn ReadBlob>, Bytes)> {
    let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
    reader.read_exact(&mut chunk)?;
    Ok((reader, chunk.into()))
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
