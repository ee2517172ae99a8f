use std::sync::Arc;

use buildkit_session::{MAX_MESSAGE_SIZE, SessionCaller, method_url};
use buildkit_session_pb::filesync::file_sync_client::FileSyncClient;
use buildkit_util_fsutil::{
    ContentHook, Differ, FilterFn, MetadataFilter, Progress, ReceiveOptions, receive,
};
use buildkit_util_system::Root;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;

use crate::{Error, headers};

/// Which part of which directory is wanted, and how it is received.
#[derive(Default)]
pub struct FsSyncRequest {
    /// Name that the client gave the directory.
    pub name: String,
    /// Entries must match one of these; empty for all.
    pub include: Vec<String>,
    /// Entries must match none of these.
    pub exclude: Vec<String>,
    /// Paths to include with all that links on the way lead to.
    pub follow_paths: Vec<String>,
    /// How files that are there are compared.
    pub differ: Differ,
    /// Changes attributes before they are compared and written.
    pub filter: Option<FilterFn>,
    /// Transfer attributes only, but for entries that the function wants.
    pub metadata_only: Option<MetadataFilter>,
    /// Is told of changes and hashes content.
    pub hook: Option<Box<dyn ContentHook>>,
    /// Is told how many bytes were received.
    pub progress: Option<Progress>,
    /// Kept as long as anything may be written, even if the caller leaves.
    pub keep: Option<Arc<dyn Send + Sync>>,
}

/// Makes `dest` equal to a directory of the client.
///
/// # Errors
/// [`Error::NoAccess`] when this client does not share it; another session might. After other errors
/// `dest` is in a state in between.
pub async fn fs_sync(caller: &SessionCaller, dest: Root, request: FsSyncRequest) -> Result<(), Error> {
    if !caller.supports(&method_url("moby.filesync.v1.FileSync", "diffcopy")) {
        return Err(Error::NoSources);
    }
    let (outgoing, requests) = mpsc::unbounded_channel();
    let mut call = Request::new(UnboundedReceiverStream::new(requests));
    let map = call.metadata_mut();
    headers::set(map, headers::DIR_NAME, std::slice::from_ref(&request.name))?;
    headers::set(map, headers::INCLUDE, &request.include)?;
    headers::set(map, headers::EXCLUDE, &request.exclude)?;
    headers::set(map, headers::FOLLOW, &request.follow_paths)?;
    let mut client = FileSyncClient::new(caller.channel())
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE);
    let mut packets = client.diff_copy(call).await?.into_inner();
    let options = ReceiveOptions {
        merge: false,
        differ: request.differ,
        filter: request.filter,
        hook: request.hook,
        metadata_only: request.metadata_only,
        progress: request.progress,
        keep: request.keep,
    };
    receive(dest, &mut packets, outgoing, options).await?;
    // The end of the call is the client's verdict.
    while packets.next().await.transpose()?.is_some() {}
    Ok(())
}
