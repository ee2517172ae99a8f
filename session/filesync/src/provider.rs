use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_session::MAX_MESSAGE_SIZE;
use buildkit_session_pb::filesync::file_sync_server::{FileSync, FileSyncServer};
use buildkit_util_appcontext::{TaskGuard, spawn, spawn_blocking};
use buildkit_util_fsutil::types::Packet;
use buildkit_util_fsutil::{Error as FsError, FileSystem, FilterFs, FilterOptions, SendOptions, send};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::error::status_of;
use crate::headers;

/// Packets that may wait for the connection.
const PACKETS: usize = 32;

pub(crate) type PacketStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

/// Shares directories of the client with its builds: only those named here.
#[derive(Clone)]
pub struct FsSyncProvider {
    dirs: Arc<BTreeMap<String, Arc<dyn FileSystem>>>,
}

impl FsSyncProvider {
    /// Shares these directories under these names.
    pub fn new(dirs: BTreeMap<String, Arc<dyn FileSystem>>) -> Self {
        Self { dirs: Arc::new(dirs) }
    }

    /// The service, for [`SessionServer::allow`](buildkit_session::SessionServer::allow).
    pub fn service(self) -> FileSyncServer<Self> {
        FileSyncServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }

    /// The methods that the service has.
    pub const METHODS: &'static [&'static str] = &["DiffCopy"];
}

#[async_trait]
impl FileSync for FsSyncProvider {
    type DiffCopyStream = PacketStream;
    type TarStreamStream = PacketStream;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<PacketStream>, Status> {
        let (metadata, _, mut incoming) = request.into_parts();
        let map = metadata.into_headers();
        let name = headers::get(&map, headers::DIR_NAME).into_iter().next().unwrap_or_default();
        let fs = self
            .dirs
            .get(&name)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("no access allowed to dir {name:?}")))?;
        let follow_paths = headers::get(&map, headers::FOLLOW);
        let options = FilterOptions {
            include: headers::get(&map, headers::INCLUDE),
            exclude: headers::get(&map, headers::EXCLUDE),
            follow_paths: (!follow_paths.is_empty()).then_some(follow_paths),
            map: None,
        };
        // Following links reads directories.
        let fs = spawn_blocking(move || FilterFs::new(fs, &options))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| status_of(&error))?;
        let (outgoing, packets) = mpsc::channel(PACKETS);
        let sending =
            spawn(async move { send(Arc::new(fs), &mut incoming, outgoing, SendOptions::default()).await });
        Ok(Response::new(until_done(ReceiverStream::new(packets), sending)))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<PacketStream>, Status> {
        Err(Status::unimplemented("method TarStream not implemented"))
    }
}

/// The packets of a transfer, and its error in the end if it fails. Dropping the stream ends the
/// transfer.
pub(crate) fn until_done(
    packets: impl Stream<Item = Packet> + Send + 'static,
    transfer: TaskGuard<Result<(), FsError>>,
) -> PacketStream {
    let end = futures::stream::once(transfer).filter_map(|result| async move {
        match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(status_of(&error))),
            Err(error) => Some(Err(Status::internal(error.to_string()))),
        }
    });
    Box::pin(packets.map(Ok).chain(end))
}
