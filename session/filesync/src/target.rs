use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use buildkit_session::MAX_MESSAGE_SIZE;
use buildkit_session_pb::filesync::BytesMessage;
use buildkit_util_appcontext::{spawn, spawn_blocking};
use buildkit_util_fsutil::types::{Packet, Stat};
use buildkit_util_fsutil::{Differ, Error as FsError, ReceiveOptions, receive};
use buildkit_util_system::Root;
use futures::{Stream, StreamExt};
use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::headers;
use crate::provider::{PacketStream, until_done};
use crate::push::{PATH, SERVICE};

/// Where one file goes.
pub trait FileOutput: io::Write + Send {
    /// Completes the file. Not called if the transfer fails.
    ///
    /// # Errors
    /// When it cannot be completed.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Opens the output for a file that the daemon describes by keys and values; `None` if it is not
/// wanted because it is there.
pub type OpenFile =
    Arc<dyn Fn(BTreeMap<String, String>) -> io::Result<Option<Box<dyn FileOutput>>> + Send + Sync>;

/// Where the results of one exporter go.
#[derive(Clone)]
pub enum Target {
    /// Into a directory, which is made if it does not exist. All entries get this process's user.
    Dir {
        /// The directory.
        path: PathBuf,
        /// Remove what the build does not have.
        delete: bool,
    },
    /// Into one file.
    File(OpenFile),
}

/// Takes what builds export: only for the exporters named here.
#[derive(Clone, Default)]
pub struct FsSyncTarget {
    targets: Arc<BTreeMap<usize, Target>>,
}

impl FsSyncTarget {
    /// Takes the results of these exporters, by their position in the request.
    pub fn new(targets: BTreeMap<usize, Target>) -> Self {
        Self { targets: Arc::new(targets) }
    }

    /// The methods that the service has.
    pub const METHODS: &'static [&'static str] = &["DiffCopy"];
}

impl NamedService for FsSyncTarget {
    const NAME: &'static str = SERVICE;
}

/// The service, for [`SessionServer::allow`](buildkit_session::SessionServer::allow). It is not the
/// generated one because its method carries packets or bytes, depending on the exporter.
impl tower::Service<http::Request<Body>> for FsSyncTarget {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let targets = self.targets.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("unknown method of FileSend").into_http());
            }
            // Clients of one exporter may not name it.
            let id = headers::get(request.headers(), headers::EXPORTER_ID_HEADER)
                .first()
                .and_then(|id| id.parse::<usize>().ok())
                .unwrap_or(0);
            Ok(match targets.get(&id) {
                None => Status::unknown(format!("exporter {id} not found")).into_http(),
                Some(Target::Dir { path, delete }) => {
                    let service = IntoDir { path: path.clone(), delete: *delete };
                    let mut grpc = Grpc::new(ProstCodec::<Packet, Packet>::default())
                        .max_decoding_message_size(MAX_MESSAGE_SIZE)
                        .max_encoding_message_size(MAX_MESSAGE_SIZE);
                    grpc.streaming(service, request).await
                }
                Some(Target::File(open)) => {
                    // A request that is aborted ends like one that is complete; only its body tells.
                    let aborted = Arc::new(AtomicBool::new(false));
                    let flag = aborted.clone();
                    let request = request.map(|body| {
                        Body::new(body.map_err(move |status| {
                            flag.store(true, Ordering::SeqCst);
                            status
                        }))
                    });
                    let mut grpc = Grpc::new(ProstCodec::<BytesMessage, BytesMessage>::default())
                        .max_decoding_message_size(MAX_MESSAGE_SIZE)
                        .max_encoding_message_size(MAX_MESSAGE_SIZE);
                    grpc.streaming(IntoFile { open: open.clone(), aborted }, request).await
                }
            })
        })
    }
}

struct IntoDir {
    path: PathBuf,
    delete: bool,
}

impl StreamingService<Packet> for IntoDir {
    type Response = Packet;
    type ResponseStream = PacketStream;
    type Future = Pin<Box<dyn Future<Output = Result<Response<PacketStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        let (path, delete) = (self.path.clone(), self.delete);
        Box::pin(async move {
            let (metadata, _, mut incoming) = request.into_parts();
            let all = headers::get(metadata.as_ref(), headers::MULTI_PLATFORM);
            if delete && !all.iter().any(|value| value == "1") {
                return Err(Status::unknown(
                    "local exporter mode=delete requires a BuildKit daemon with multi-platform local \
                     export support",
                ));
            }
            let dest = spawn_blocking(move || open_dir(&path))
                .await
                .map_err(|error| Status::internal(error.to_string()))?
                .map_err(|error| Status::unknown(error.to_string()))?;
            let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
            let options = ReceiveOptions {
                merge: !delete,
                // What is there was not made by an earlier transfer.
                differ: Differ::None,
                filter: Some(Arc::new(move |_: &str, stat: &mut Stat| {
                    (stat.uid, stat.gid) = (uid, gid);
                    true
                })),
                ..ReceiveOptions::default()
            };
            let (outgoing, packets) = mpsc::unbounded_channel();
            let receiving = spawn(async move { receive(dest, &mut incoming, outgoing, options).await });
            Ok(Response::new(until_done(UnboundedReceiverStream::new(packets), receiving)))
        })
    }
}

fn open_dir(path: &Path) -> Result<Root, FsError> {
    let fail = |source| FsError::Io {
        action: "create synctarget dest dir",
        path: path.display().to_string(),
        source,
    };
    fs_err::create_dir_all(path).map_err(fail)?;
    Root::open(path).map_err(|error| fail(io::Error::other(error)))
}

struct IntoFile {
    open: OpenFile,
    aborted: Arc<AtomicBool>,
}

type BytesStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

impl StreamingService<BytesMessage> for IntoFile {
    type Response = BytesMessage;
    type ResponseStream = BytesStream;
    type Future = Pin<Box<dyn Future<Output = Result<Response<BytesStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<BytesMessage>>) -> Self::Future {
        let (open, aborted) = (self.open.clone(), self.aborted.clone());
        Box::pin(async move {
            let (metadata, _, incoming) = request.into_parts();
            write_file(open, described(metadata.as_ref()), incoming, &aborted).await?;
            let nothing: BytesStream = Box::pin(futures::stream::empty());
            Ok(Response::new(nothing))
        })
    }
}

/// What the daemon says of a file.
fn described(map: &HeaderMap) -> BTreeMap<String, String> {
    map.keys()
        .filter_map(|key| Some((key.as_str(), key.as_str().strip_prefix(headers::FILE_METADATA)?)))
        .filter(|(_, name)| !name.ends_with("-encoded"))
        .map(|(key, name)| (name.to_owned(), headers::get(map, key).join(",")))
        .collect()
}

async fn write_file(
    open: OpenFile,
    metadata: BTreeMap<String, String>,
    mut incoming: Streaming<BytesMessage>,
    aborted: &AtomicBool,
) -> Result<(), Status> {
    let (messages, mut queue) = mpsc::channel::<BytesMessage>(4);
    let (complete, is_complete) = tokio::sync::oneshot::channel::<()>();
    let writing = spawn_blocking(move || {
        let Some(mut output) = open(metadata)? else { return Ok(false) };
        while let Some(message) = queue.blocking_recv() {
            output.write_all(&message.data)?;
        }
        // Without the word the transfer was cut off, and the file is not finished.
        if is_complete.blocking_recv().is_ok() {
            output.flush()?;
            output.finish()?;
        }
        Ok::<_, io::Error>(true)
    });
    let mut cut_off = None;
    while let Some(message) = incoming.next().await {
        match message {
            Ok(message) => {
                if messages.send(message).await.is_err() {
                    break;
                }
            }
            Err(status) => {
                cut_off = Some(status);
                break;
            }
        }
    }
    if aborted.load(Ordering::SeqCst) {
        cut_off.get_or_insert_with(|| Status::cancelled("transfer was aborted"));
    }
    match cut_off {
        None => drop(complete.send(())),
        Some(_) => drop(complete),
    }
    drop(messages);
    let wanted = writing
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::unknown(error.to_string()))?;
    match cut_off {
        Some(status) => Err(status),
        None if wanted => Ok(()),
        None => Err(Status::already_exists("target already exists")),
    }
}
