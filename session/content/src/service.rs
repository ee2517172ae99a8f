use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::Classify;
use buildkit_session::MAX_MESSAGE_SIZE;
use buildkit_session_pb::content as pb;
use buildkit_session_pb::content::content_server::{Content, ContentServer};
use buildkit_util_appcontext::{spawn, spawn_blocking};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{BlobInfo, ContentStore, Error, Expected};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::STORE_ID_HEADER;
use crate::ingests::{Ingests, Lease, signed};
use crate::stream::read_part;

/// Blobs that are described in one message.
const LISTED: usize = 100;

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves stores of the client to its builds: only those named here. What is written partly is kept until the
/// session ends, to be resumed.
#[derive(Clone)]
pub struct ContentService {
    stores: Arc<BTreeMap<String, Served>>,
    /// The store of calls that name none.
    default: Option<Served>,
}

#[derive(Clone)]
struct Served {
    store: Arc<dyn ContentStore>,
    ingests: Arc<Ingests>,
}

impl ContentService {
    /// Methods to announce with the session.
    pub const METHODS: &'static [&'static str] =
        &["Abort", "Delete", "Info", "List", "ListStatuses", "Read", "Status", "Update", "Write"];

    /// Serves these stores under these names, such as `oci:<name>` for a layout, `local:<directory>` for a cache
    /// and `export` for an image that is exported.
    pub fn new(stores: BTreeMap<String, Arc<dyn ContentStore>>) -> Self {
        let served = |store| Served { store, ingests: Arc::default() };
        let stores = stores.into_iter().map(|(name, store)| (name, served(store))).collect();
        Self { stores: Arc::new(stores), default: None }
    }

    /// Serves one store, whatever name calls have for it: that of a daemon, to its clients.
    pub fn of_daemon(store: Arc<dyn ContentStore>) -> Self {
        Self { stores: Arc::default(), default: Some(Served { store, ingests: Arc::default() }) }
    }

    /// The gRPC service, for [`SessionServer::allow`](buildkit_session::SessionServer::allow).
    pub fn service(self) -> ContentServer<Self> {
        ContentServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }

    fn choose(&self, metadata: &MetadataMap) -> Result<Served, Status> {
        if let Some(default) = &self.default {
            return Ok(default.clone());
        }
        let id = metadata.get(STORE_ID_HEADER).ok_or_else(|| {
            Status::invalid_argument(format!("request lacks metadata {STORE_ID_HEADER:?}: invalid argument"))
        })?;
        // Directories are part of names, and need not be ASCII.
        let id = String::from_utf8_lossy(id.as_bytes());
        let served = self.stores.get(id.as_ref()).cloned();
        served.ok_or_else(|| Status::not_found(format!("unknown store {id}: not found")))
    }
}

/// Work that blocks, on a thread for such.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
}

/// What the daemon is told of an error.
pub(crate) fn status_of(error: &Error) -> Status {
    let mut text = error.to_string();
    if let Error::Io { source, .. } = error {
        text = format!("{text}: {source}");
    }
    Status::new(Code::from_i32(error.kind().code()), text)
}

/// A digest that may be looked for: of an algorithm that is known, in the form that it must have.
fn digest_of(text: &str) -> Result<Digest, Status> {
    Digest::parse(text)
        .ok()
        .filter(|digest| matches!(digest.algorithm(), "sha256" | "sha384" | "sha512"))
        .ok_or_else(|| {
            let shown: String = text.chars().take(128).collect();
            Status::invalid_argument(format!("{shown:?} failed validation"))
        })
}

/// What a client of the service expects, where 0 and nothing stand for not known.
fn expected_of(total: i64, digest: &str) -> Result<Expected, Status> {
    let digest = if digest.is_empty() { None } else { Some(digest_of(digest)?) };
    Ok(Expected { digest, size: u64::try_from(total).ok().filter(|size| *size > 0) })
}

fn info_message(info: &BlobInfo) -> pb::Info {
    pb::Info {
        digest: info.digest.to_string(),
        size: signed(info.size),
        created_at: Some(info.stored_at.into()),
        updated_at: Some(info.stored_at.into()),
        ..pb::Info::default()
    }
}

fn no_filters(filters: &[String]) -> Result<(), Status> {
    if filters.is_empty() { Ok(()) } else { Err(Status::unimplemented("filters are not supported")) }
}

fn aborted(name: &str) -> Status {
    Status::not_found(format!("could not get status for ref {name:?}: not found"))
}

#[async_trait]
impl Content for ContentService {
    type ListStream = Messages<pb::ListContentResponse>;
    type ReadStream = Messages<pb::ReadContentResponse>;
    type WriteStream = Messages<pb::WriteContentResponse>;

    async fn info(&self, request: Request<pb::InfoRequest>) -> Answer<pb::InfoResponse> {
        let Served { store, .. } = self.choose(request.metadata())?;
        let digest = digest_of(&request.get_ref().digest)?;
        let info = blocking(move || store.info(&digest).map_err(|error| status_of(&error))).await?;
        Ok(Response::new(pb::InfoResponse { info: Some(info_message(&info)) }))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> Answer<pb::UpdateResponse> {
        self.choose(request.metadata())?;
        digest_of(request.get_ref().info.as_ref().map_or("", |info| &info.digest))?;
        Err(Status::failed_precondition(
            "update not supported on immutable content store: failed precondition",
        ))
    }

    async fn list(&self, request: Request<pb::ListContentRequest>) -> Answer<Self::ListStream> {
        let Served { store, .. } = self.choose(request.metadata())?;
        no_filters(&request.get_ref().filters)?;
        let infos = blocking(move || store.list().map_err(|error| status_of(&error))).await?;
        let messages: Vec<_> = infos
            .chunks(LISTED)
            .map(|infos| Ok(pb::ListContentResponse { info: infos.iter().map(info_message).collect() }))
            .collect();
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }

    async fn delete(&self, request: Request<pb::DeleteContentRequest>) -> Answer<()> {
        let Served { store, .. } = self.choose(request.metadata())?;
        let digest = digest_of(&request.get_ref().digest)?;
        blocking(move || store.delete(&digest).map_err(|error| status_of(&error))).await?;
        Ok(Response::new(()))
    }

    async fn read(&self, request: Request<pb::ReadContentRequest>) -> Answer<Self::ReadStream> {
        let Served { store, .. } = self.choose(request.metadata())?;
        let request = request.into_inner();
        let digest = digest_of(&request.digest)?;
        let offset = u64::try_from(request.offset).unwrap_or(0);
        let size = u64::try_from(request.size).ok().filter(|size| *size > 0);
        Ok(Response::new(Box::pin(read_part(store, digest, offset, size).await?)))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        let Served { ingests, .. } = self.choose(request.metadata())?;
        let name = &request.get_ref().r#ref;
        let state = ingests.state(name).ok_or_else(|| aborted(name))?;
        Ok(Response::new(pb::StatusResponse { status: Some(state.to_message()) }))
    }

    async fn list_statuses(
        &self,
        request: Request<pb::ListStatusesRequest>,
    ) -> Answer<pb::ListStatusesResponse> {
        let Served { ingests, .. } = self.choose(request.metadata())?;
        no_filters(&request.get_ref().filters)?;
        let statuses = ingests.states().iter().map(|state| state.to_message()).collect();
        Ok(Response::new(pb::ListStatusesResponse { statuses }))
    }

    async fn write(&self, request: Request<Streaming<pb::WriteContentRequest>>) -> Answer<Self::WriteStream> {
        let served = self.choose(request.metadata())?;
        let mut requests = request.into_inner();
        let (sender, mut receiver) = mpsc::channel(1);
        let task = spawn(async move {
            if let Err(status) = serve_write(&served, &mut requests, &sender).await {
                // Nobody listens: then nobody needs to know.
                let _ = sender.send(Err(status)).await;
            }
        });
        // The task lives as long as the stream that the daemon reads.
        let messages = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(move |message| {
            let _task = &task;
            message
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn abort(&self, request: Request<pb::AbortRequest>) -> Answer<()> {
        let Served { ingests, .. } = self.choose(request.metadata())?;
        let name = &request.get_ref().r#ref;
        if ingests.abort(name) { Ok(Response::new(())) } else { Err(aborted(name)) }
    }
}

/// Answers each message of a writer until it commits or leaves.
async fn serve_write(
    served: &Served,
    requests: &mut Streaming<pb::WriteContentRequest>,
    responses: &mpsc::Sender<Result<pb::WriteContentResponse, Status>>,
) -> Result<(), Status> {
    let Some(mut request) = requests.message().await? else { return Ok(()) };
    if request.r#ref.is_empty() {
        return Err(Status::invalid_argument("first message must have a reference"));
    }
    let expected = expected_of(request.total, &request.expected)?;
    refuse_present(served, &expected).await?;
    let mut lease = served.ingests.lease(&served.store, &request.r#ref, expected).await?;
    loop {
        let action = pb::WriteAction::try_from(request.action)
            .map_err(|_| Status::invalid_argument(format!("unknown action {}", request.action)))?;
        let expected = expected_of(request.total, &request.expected)?;
        if action != pb::WriteAction::Stat {
            advance(&mut lease, &mut request).await?;
        }
        let state = lease.state().clone();
        let mut response = pb::WriteContentResponse {
            action: action.into(),
            offset: signed(state.offset),
            ..pb::WriteContentResponse::default()
        };
        match action {
            pb::WriteAction::Stat => {
                response.started_at = Some(state.started.into());
                response.updated_at = Some(state.updated.into());
                response.total = signed(expected.size.or(state.expected.size).unwrap_or(0));
            }
            pb::WriteAction::Write => {}
            pb::WriteAction::Commit => {
                if let Err(present) = refuse_present(served, &expected).await {
                    lease.forget();
                    return Err(present);
                }
                response.digest = lease.commit(expected).await?.to_string();
                let _ = responses.send(Ok(response)).await;
                return Ok(());
            }
        }
        if responses.send(Ok(response)).await.is_err() {
            return Ok(());
        }
        match requests.message().await? {
            Some(next) => request = next,
            None => return Ok(()),
        }
    }
}

/// Writes what a message holds, where it says: at the end, or at the beginning of everything anew.
async fn advance(lease: &mut Lease, request: &mut pb::WriteContentRequest) -> Result<(), Status> {
    let current = lease.state().offset;
    if request.offset < 0 || (request.offset > 0 && request.offset != signed(current)) {
        return Err(Status::out_of_range(format!(
            "write @{} must occur at current offset {current}",
            request.offset
        )));
    }
    if request.offset == 0 && current > 0 {
        lease.restart().await?;
    }
    if request.data.is_empty() { Ok(()) } else { lease.write(std::mem::take(&mut request.data)).await }
}

/// An error if the blob is there already.
async fn refuse_present(served: &Served, expected: &Expected) -> Result<(), Status> {
    let Some(digest) = expected.digest.clone() else { return Ok(()) };
    let store = served.store.clone();
    let text = format!("blob with expected digest {digest} exists");
    let is_present = blocking(move || match store.info(&digest) {
        Ok(_) => Ok(true),
        Err(Error::NotFound(_)) => Ok(false),
        Err(error) => Err(status_of(&error)),
    });
    if is_present.await? { Err(Status::already_exists(text)) } else { Ok(()) }
}
