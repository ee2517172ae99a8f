//! A daemon that answers as planned and keeps what it was asked.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_api_services_control as control;
use buildkit_api_services_control::control_server::{Control, ControlServer};
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_pb as gateway;
use buildkit_frontend_gateway_pb::llb_bridge_server::{LlbBridge, LlbBridgeServer};
use buildkit_session::SessionManager;
use buildkit_session_content::SessionContent;
use buildkit_session_secrets::get_secret;
use buildkit_util_appcontext::{TaskGuard, spawn};
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::{Detail, RemoteError};
use buildkit_util_ocispec::{Descriptor, to_json};
use futures::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// How a build goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Succeed,
    Fail,
    Hang,
    /// Copies the blobs of the store `oci:base` that the option `blobs` lists into the store `export`, and says that the first of
    /// them is the image.
    Export,
}

/// How far a build is.
#[derive(Clone)]
enum Stage {
    Idle,
    Solving,
    Returned(Result<(), RemoteError>),
    Over,
}

struct Shared {
    plan: Plan,
    sessions: SessionManager,
    request: Mutex<Option<control::SolveRequest>>,
    exported: Mutex<Option<Descriptor>>,
    stage: watch::Sender<Stage>,
}

pub struct Daemon {
    dir: tempfile::TempDir,
    shared: Arc<Shared>,
    _task: TaskGuard<()>,
}

impl Daemon {
    pub fn start(plan: Plan) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = tokio::net::UnixListener::bind(dir.path().join("s")).expect("listens");
        let shared = Arc::new(Shared {
            plan,
            sessions: SessionManager::new(),
            request: Mutex::new(None),
            exported: Mutex::new(None),
            stage: watch::Sender::new(Stage::Idle),
        });
        let server = tonic::transport::Server::builder()
            .add_service(ControlServer::new(Service(shared.clone())))
            .add_service(LlbBridgeServer::new(Service(shared.clone())))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let task = spawn(async move { server.await.expect("serves") });
        Self { dir, shared, _task: task }
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.dir.path().join("s").display())
    }

    pub fn request(&self) -> control::SolveRequest {
        self.shared.request.lock().expect("not poisoned").clone().expect("was asked")
    }

    pub fn was_asked(&self) -> bool {
        self.shared.request.lock().expect("not poisoned").is_some()
    }

    pub async fn solving(&self) {
        let mut stage = self.shared.stage.subscribe();
        stage.wait_for(|stage| matches!(stage, Stage::Solving)).await.expect("lives");
    }
}

struct Service(Arc<Shared>);

/// Says that a solve is over, however it ended.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.stage.send_replace(Stage::Over);
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn vertex(name: &str) -> control::StatusResponse {
    let vertex = control::Vertex {
        digest: Digest::sha256(name).to_string(),
        name: name.to_owned(),
        ..control::Vertex::default()
    };
    control::StatusResponse { vertexes: vec![vertex], ..control::StatusResponse::default() }
}

fn nobody_asks<T>() -> Answer<T> {
    Err(Status::unimplemented("nobody asks this"))
}

/// Methods that no client calls here.
macro_rules! not_asked {
    ($module:ident: $($name:ident($request:ident) -> $response:ident;)*) => {$(
        fn $name<'a, 'b>(
            &'a self,
            _: Request<$module::$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<$module::$response>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(std::future::ready(nobody_asks()))
        }
    )*};
}

#[tonic::async_trait]
impl Control for Service {
    type PruneStream = Items<control::UsageRecord>;
    type StatusStream = Items<control::StatusResponse>;
    type SessionStream = Items<control::BytesMessage>;
    type ListenBuildHistoryStream = Items<control::BuildHistoryEvent>;

    async fn solve(&self, request: Request<control::SolveRequest>) -> Answer<control::SolveResponse> {
        let _over = Over(self.0.clone());
        *self.0.request.lock().expect("not poisoned") = Some(request.into_inner());
        self.0.stage.send_replace(Stage::Solving);
        let mut stage = self.0.stage.subscribe();
        let stage = stage.wait_for(|stage| matches!(stage, Stage::Returned(_))).await.expect("lives").clone();
        match stage {
            Stage::Returned(Err(error)) => Err(error.into()),
            _ => {
                let mut exporter_response = BTreeMap::from([("exported".to_owned(), "yes".to_owned())]);
                if let Some(image) = &*self.0.exported.lock().expect("not poisoned") {
                    let image = STANDARD.encode(to_json(image));
                    exporter_response.insert("containerimage.descriptor".to_owned(), image);
                    exporter_response.insert("image.name".to_owned(), "a.b/c:1,a.b/c:2".to_owned());
                }
                Ok(Response::new(control::SolveResponse { exporter_response }))
            }
        }
    }

    async fn status(&self, _: Request<control::StatusRequest>) -> Answer<Self::StatusStream> {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let mut stage = self.0.stage.subscribe();
        let task = spawn(async move {
            let _ = sender.send(Ok(vertex("first"))).await;
            let _ = stage.wait_for(|stage| matches!(stage, Stage::Over)).await;
            let _ = sender.send(Ok(vertex("last"))).await;
        });
        let stream = ReceiverStream::new(receiver).map(move |message| {
            let _task = &task;
            message
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn session(
        &self,
        request: Request<Streaming<control::BytesMessage>>,
    ) -> Answer<Self::SessionStream> {
        Ok(Response::new(buildkit_session_grpchijack::serve(&self.0.sessions, request)))
    }

    async fn prune(&self, _: Request<control::PruneRequest>) -> Answer<Self::PruneStream> {
        nobody_asks()
    }

    async fn listen_build_history(
        &self,
        _: Request<control::BuildHistoryRequest>,
    ) -> Answer<Self::ListenBuildHistoryStream> {
        nobody_asks()
    }

    not_asked! { control:
        disk_usage(DiskUsageRequest) -> DiskUsageResponse;
        list_workers(ListWorkersRequest) -> ListWorkersResponse;
        info(InfoRequest) -> InfoResponse;
        update_build_history(UpdateBuildHistoryRequest) -> UpdateBuildHistoryResponse;
    }
}

#[tonic::async_trait]
impl LlbBridge for Service {
    type ExecProcessStream = Items<gateway::ExecMessage>;

    async fn solve(&self, request: Request<gateway::SolveRequest>) -> Answer<gateway::SolveResponse> {
        let id = request.metadata().get("buildkit-controlapi-buildid").cloned();
        let mut stage = self.0.stage.subscribe();
        stage.wait_for(|stage| matches!(stage, Stage::Solving)).await.expect("lives");
        let solve = self.0.request.lock().expect("not poisoned").clone().expect("was asked");
        assert_eq!(id.expect("names the build").to_str().expect("text"), solve.r#ref);
        assert!(request.get_ref().definition.is_some());
        match self.0.plan {
            Plan::Hang => std::future::pending().await,
            Plan::Fail => {
                let detail = Detail::json("errdefs.Vertex", r#"{"digest":"x"}"#);
                Err(RemoteError::new(Kind::InvalidArgument, "exit code: 3").with(detail).into())
            }
            Plan::Succeed | Plan::Export => {
                let wait = Duration::from_secs(30);
                let session = self.0.sessions.get(&solve.session, wait).await.expect("a session");
                if self.0.plan == Plan::Export {
                    let base = SessionContent::of_caller(session.clone(), "oci:base");
                    let export = SessionContent::of_caller(session.clone(), "export");
                    let blobs: Vec<Descriptor> =
                        serde_json::from_str(&solve.frontend_attrs["blobs"]).expect("list");
                    for blob in &blobs {
                        export.copy(&base, blob).await.map_err(|error| Status::unknown(error.to_string()))?;
                    }
                    *self.0.exported.lock().expect("not poisoned") = blobs.first().cloned();
                }
                let secret = get_secret(&session, "a").await.expect("a secret");
                let reference = gateway::Ref { id: "ref".to_owned(), def: None };
                Ok(Response::new(gateway::SolveResponse {
                    r#ref: String::new(),
                    result: Some(gateway::Result {
                        metadata: BTreeMap::from([("secret".to_owned(), secret.into())]),
                        result: Some(gateway::result::Result::Ref(reference)),
                        ..gateway::Result::default()
                    }),
                }))
            }
        }
    }

    async fn ping(&self, request: Request<gateway::PingRequest>) -> Answer<gateway::PongResponse> {
        assert!(request.metadata().contains_key("buildkit-controlapi-buildid"));
        let frontend_api_caps = gateway::caps::list().all();
        Ok(Response::new(gateway::PongResponse { frontend_api_caps, ..gateway::PongResponse::default() }))
    }

    async fn r#return(&self, request: Request<gateway::ReturnRequest>) -> Answer<gateway::ReturnResponse> {
        let request = request.into_inner();
        let result = match request.error {
            Some(error) => Err(RemoteError::from_rpc(error)),
            None => {
                let result = request.result.and_then(|result| result.result);
                assert!(matches!(result, Some(gateway::result::Result::Ref(r)) if r.id == "ref"));
                Ok(())
            }
        };
        self.0.stage.send_replace(Stage::Returned(result));
        Ok(Response::new(gateway::ReturnResponse {}))
    }

    async fn exec_process(
        &self,
        _: Request<Streaming<gateway::ExecMessage>>,
    ) -> Answer<Self::ExecProcessStream> {
        nobody_asks()
    }

    not_asked! { gateway:
        resolve_image_config(ResolveImageConfigRequest) -> ResolveImageConfigResponse;
        resolve_source_meta(ResolveSourceMetaRequest) -> ResolveSourceMetaResponse;
        read_file(ReadFileRequest) -> ReadFileResponse;
        read_dir(ReadDirRequest) -> ReadDirResponse;
        stat_file(StatFileRequest) -> StatFileResponse;
        evaluate(EvaluateRequest) -> EvaluateResponse;
        inputs(InputsRequest) -> InputsResponse;
        new_container(NewContainerRequest) -> NewContainerResponse;
        release_container(ReleaseContainerRequest) -> ReleaseContainerResponse;
        read_file_container(ReadFileRequest) -> ReadFileResponse;
        read_dir_container(ReadDirRequest) -> ReadDirResponse;
        stat_file_container(StatFileRequest) -> StatFileResponse;
        warn(WarnRequest) -> WarnResponse;
    }
}
