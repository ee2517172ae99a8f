use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use buildkit_session::{MAX_MESSAGE_SIZE, SessionCaller, method_url};
use buildkit_session_pb::filesync::BytesMessage;
use buildkit_session_pb::filesync::file_send_client::FileSendClient;
use buildkit_util_appcontext::{TaskGuard, spawn};
use buildkit_util_fsutil::types::Packet;
use buildkit_util_fsutil::{FileSystem, Progress, SendOptions, send};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::{Error, headers};

pub(crate) const SERVICE: &str = "moby.filesync.v1.FileSend";
pub(crate) const PATH: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// Bytes in one message of a file. Go peers take 4 MiB.
const CHUNK: usize = 1 << 20;
/// Messages that may wait for the connection.
const QUEUE: usize = 4;
/// Packets that may wait for the connection.
const PACKETS: usize = 32;

fn check(caller: &SessionCaller) -> Result<(), Error> {
    let method = method_url(SERVICE, "diffcopy");
    if caller.supports(&method) { Ok(()) } else { Err(Error::Unsupported(method)) }
}

/// Sends a tree into the directory that the client has for exporter `exporter_id`.
/// `multi_platform` says that this is all the build exports, so that a client that mirrors may remove
/// what is not in it.
///
/// # Errors
/// Those of the tree and the client. What was sent stays.
pub async fn copy_to_caller(
    caller: &SessionCaller,
    fs: Arc<dyn FileSystem>,
    exporter_id: usize,
    multi_platform: bool,
    progress: Option<Progress>,
) -> Result<(), Error> {
    check(caller)?;
    let (outgoing, packets) = mpsc::channel(PACKETS);
    let mut call = Request::new(ReceiverStream::new(packets));
    let map = call.metadata_mut();
    headers::set(map, headers::EXPORTER_ID_HEADER, &[exporter_id.to_string()])?;
    if multi_platform {
        headers::set(map, headers::MULTI_PLATFORM, &["1".to_owned()])?;
    }
    // The client answers when it wants a file, so the call is part of the stream of its answers.
    let channel = caller.channel();
    let answers = async move {
        let mut grpc = Grpc::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static(PATH);
        let codec = ProstCodec::<Packet, Packet>::default();
        Ok::<_, Status>(grpc.streaming(call, path, codec).await?.into_inner())
    };
    let mut answers = Box::pin(futures::stream::once(answers).try_flatten());
    let sent = send(fs, &mut answers, outgoing, SendOptions { progress }).await;
    if let Err(error) = sent {
        if !matches!(error, buildkit_util_fsutil::Error::Ended) {
            return Err(error.into());
        }
        // The client ended the call; why is the end of its answers.
        answers.try_for_each(|_| async { Ok(()) }).await?;
        return Err(error.into());
    }
    while answers.next().await.transpose()?.is_some() {}
    Ok(())
}

/// Starts to send one file to the client, for exporter `exporter_id`. `metadata` describes it.
///
/// # Errors
/// When the client takes no files. Whether it takes this one shows when it is written.
pub fn copy_file_writer(
    caller: &SessionCaller,
    metadata: &BTreeMap<String, String>,
    exporter_id: usize,
) -> Result<FileWriter, Error> {
    check(caller)?;
    let mut map = MetadataMap::new();
    for (key, value) in metadata {
        let key = format!("{}{}", headers::FILE_METADATA, key.to_ascii_lowercase());
        headers::set(&mut map, &key, std::slice::from_ref(value))?;
    }
    headers::set(&mut map, headers::EXPORTER_ID_HEADER, &[exporter_id.to_string()])?;
    let (messages, queue) = mpsc::channel::<Option<BytesMessage>>(QUEUE);
    // A file that is given up must not look complete: without the word of the end the call never
    // ends by itself, and is aborted.
    let messages_to_end = futures::stream::unfold(queue, |mut queue| async move {
        match queue.recv().await {
            Some(Some(message)) => Some((message, queue)),
            Some(None) => None,
            None => std::future::pending().await,
        }
    });
    let mut call = Request::new(messages_to_end);
    *call.metadata_mut() = map;
    let mut client = FileSendClient::new(caller.channel())
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE);
    let call = spawn(async move {
        let mut answers = client.diff_copy(call).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    });
    Ok(FileWriter { messages, call, buffer: BytesMut::new() })
}

/// A file on its way to the client. Dropping it without [`finish`](Self::finish) aborts the transfer.
///
/// Write with [`write_bytes`](Self::write_bytes) from tasks, or through [`io::Write`] from threads
/// that may block.
pub struct FileWriter {
    messages: mpsc::Sender<Option<BytesMessage>>,
    call: TaskGuard<Result<(), Status>>,
    buffer: BytesMut,
}

impl FileWriter {
    /// Adds data.
    ///
    /// # Errors
    /// When the client has ended the transfer; [`Error::AlreadyExists`] when it has the file.
    pub async fn write_bytes(&mut self, data: Bytes) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            let buffered = self.buffer.split().freeze();
            self.send(buffered).await?;
        }
        let mut rest = data;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            self.send(chunk).await?;
        }
        Ok(())
    }

    async fn send(&mut self, data: Bytes) -> Result<(), Error> {
        match self.messages.send(Some(BytesMessage { data })).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Why the client ended the call early.
    async fn ended(&mut self) -> Error {
        match (&mut self.call).await {
            Ok(Err(status)) => status.into(),
            Ok(Ok(())) => Error::Transfer(buildkit_util_fsutil::Error::Ended),
            Err(error) => Error::Task(error),
        }
    }

    /// Ends the file and waits for the client to have it.
    ///
    /// # Errors
    /// What the client says; [`Error::AlreadyExists`] when it has the file.
    pub async fn finish(mut self) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            let data = self.buffer.split().freeze();
            self.send(data).await?;
        }
        // If nobody takes it, the call has ended and says why.
        let _ = self.messages.send(None).await;
        self.call.await.map_err(Error::Task)?.map_err(Error::from)
    }

    /// Gives the file up; if the client has ended the transfer already, says why.
    pub async fn abandon(mut self) -> Option<Error> {
        if self.messages.is_closed() { Some(self.ended().await) } else { None }
    }

    fn send_blocking(&mut self) -> io::Result<()> {
        let data = self.buffer.split().freeze();
        self.messages
            .blocking_send(Some(BytesMessage { data }))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "client ended the transfer"))
    }
}

/// Blocks: not for tasks. After an error [`finish`](FileWriter::finish) tells why.
impl io::Write for FileWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let len = data.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..len]);
        if self.buffer.len() == CHUNK {
            self.send_blocking()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.send_blocking() }
    }
}
