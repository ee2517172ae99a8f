//! Frontends over one stream, whose daemon knows as much as its capabilities say.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_client::{
    BuildFunction, GatewayClient, GatewayResult, MetaRequest, ReadDir, RemoteError, SolveRequest,
};
use buildkit_frontend_gateway_grpcclient::{BUILD_ID_KEY, GrpcClient, Settings, connect};
use buildkit_frontend_gateway_pb::llb_bridge_server::{LlbBridge, LlbBridgeServer};
use buildkit_frontend_gateway_pb::{self as pb, caps};
use buildkit_solver_pb::SourceOp;
use buildkit_util_appcontext::{TaskGuard, spawn};
use buildkit_util_cachedigest::Digest;
use parking_lot::Mutex;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;

/// What a daemon was asked, in order.
#[derive(Default)]
struct Asked {
    solves: Vec<pb::SolveRequest>,
    stats: Vec<String>,
    images: Vec<pb::ResolveImageConfigRequest>,
    returned: Vec<pb::ReturnRequest>,
    builds: Vec<String>,
}

/// A daemon that knows only some capabilities.
struct Daemon {
    caps: &'static [&'static str],
    asked: Arc<Mutex<Asked>>,
}

/// Calls that a daemon does not know.
macro_rules! not_known {
    ($($name:ident($request:ident) -> $response:ident;)*) => {$(
        fn $name<'a, 'b>(
            &'a self,
            _: Request<pb::$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<pb::$response>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(std::future::ready(Err(Status::unimplemented("not known"))))
        }
    )*};
}

#[tonic::async_trait]
impl LlbBridge for Daemon {
    type ExecProcessStream = tokio_stream::Empty<Result<pb::ExecMessage, Status>>;

    async fn ping(&self, request: Request<pb::PingRequest>) -> Answer<pb::PongResponse> {
        let id = request.metadata().get(BUILD_ID_KEY).map(|id| id.to_str().expect("text").to_owned());
        self.asked.lock().builds.extend(id);
        let known = caps::list().clone().filtered(|cap| self.caps.contains(&cap.id));
        Ok(Response::new(pb::PongResponse { frontend_api_caps: known.all(), ..pb::PongResponse::default() }))
    }

    async fn solve(&self, request: Request<pb::SolveRequest>) -> Answer<pb::SolveResponse> {
        self.asked.lock().solves.push(request.into_inner());
        Ok(Response::new(pb::SolveResponse { r#ref: "old".to_owned(), result: None }))
    }

    async fn stat_file(&self, request: Request<pb::StatFileRequest>) -> Answer<pb::StatFileResponse> {
        let request = request.into_inner();
        self.asked.lock().stats.push(format!("{} {}", request.r#ref, request.path));
        Ok(Response::new(pb::StatFileResponse { stat: Some(Default::default()) }))
    }

    async fn resolve_image_config(
        &self,
        request: Request<pb::ResolveImageConfigRequest>,
    ) -> Answer<pb::ResolveImageConfigResponse> {
        self.asked.lock().images.push(request.into_inner());
        Ok(Response::new(pb::ResolveImageConfigResponse {
            digest: Digest::sha256("image").to_string(),
            config: "{}".into(),
            r#ref: String::new(),
        }))
    }

    async fn r#return(&self, request: Request<pb::ReturnRequest>) -> Answer<pb::ReturnResponse> {
        self.asked.lock().returned.push(request.into_inner());
        Ok(Response::new(pb::ReturnResponse {}))
    }

    async fn exec_process(&self, _: Request<Streaming<pb::ExecMessage>>) -> Answer<Self::ExecProcessStream> {
        Err(Status::unimplemented("not known"))
    }

    not_known! {
        resolve_source_meta(ResolveSourceMetaRequest) -> ResolveSourceMetaResponse;
        read_file(ReadFileRequest) -> ReadFileResponse;
        read_dir(ReadDirRequest) -> ReadDirResponse;
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

/// A client of a daemon with these capabilities, what that was asked, and the daemon.
async fn client(
    caps: &'static [&'static str],
    settings: Settings,
) -> (Arc<GrpcClient>, Arc<Mutex<Asked>>, TaskGuard<()>) {
    let asked: Arc<Mutex<Asked>> = Arc::default();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let daemon = LlbBridgeServer::new(Daemon { caps, asked: asked.clone() });
    let task = spawn(async move {
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(theirs));
        let server = tonic::transport::Server::builder().add_service(daemon);
        server.serve_with_incoming(incoming).await.expect("serves");
    });
    let client = GrpcClient::new(connect(ours), settings).await.expect("a daemon");
    (Arc::new(client), asked, task)
}

const OLD: &[&str] = &[caps::SOLVE_BASE, caps::RETURN_RESULT, caps::STAT_FILE];

fn first(result: &GatewayResult) -> Arc<dyn buildkit_frontend_gateway_client::GatewayRef> {
    result.iter().next().expect("a tree").clone()
}

#[tokio::test]
async fn old_daemons_are_asked_what_they_know() {
    let opts = [("cache-from", "a"), ("cache-imports", "[]"), ("target", "t")];
    let opts = opts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let settings = Settings { opts, build_id: "build".to_owned(), ..Settings::default() };
    let (client, asked, _daemon) = client(OLD, settings).await;
    assert_eq!(asked.lock().builds, ["build"]);

    // It does not know of `evaluate`, neither in a solve nor of a ref: looking into the tree has it made.
    let request = SolveRequest { evaluate: true, frontend: "inner".to_owned(), ..SolveRequest::default() };
    let tree = first(&client.solve(request).await.expect("a result"));
    assert_eq!((tree.id(), tree.definition()), ("old", None));
    assert_eq!(asked.lock().stats, ["old ."]);
    let solve = asked.lock().solves.remove(0);
    assert!(!solve.evaluate && solve.allow_result_return);
    // Caches hold for inner frontends too, other options do not.
    let passed: Vec<_> = solve.frontend_opt.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(passed, ["cache-from=a", "cache-imports=[]"]);

    let all = ReadDir { path: "/".to_owned(), include_pattern: String::new() };
    let error = tree.read_dir(all).await.expect_err("not known");
    assert!(error.message.contains("readdir (read static directory) is not supported"), "{error}");
    let error = client.inputs().await.expect_err("not known");
    assert!(error.message.contains("frontend.inputs"), "{error}");
}

#[tokio::test]
async fn old_daemons_know_images_and_no_other_sources() {
    let (client, asked, _daemon) = client(OLD, Settings::default()).await;
    assert_eq!(asked.lock().builds, [] as [String; 0]);
    let source = |identifier: &str| SourceOp { identifier: identifier.to_owned(), attrs: Vec::new() };
    let meta = async |identifier: &str| {
        client.resolve_source_meta(source(identifier), MetaRequest::default()).await.expect("an answer")
    };
    let (found, known) = meta("docker-image://example.org/a:1").await;
    assert_eq!(found.identifier, "docker-image://example.org/a:1");
    assert_eq!(known.image.expect("an image").digest, Digest::sha256("image"));
    assert_eq!(asked.lock().images[0].r#ref, "example.org/a:1");
    let (found, known) = meta("git://example.org/a").await;
    assert_eq!((found, known.image), (source("git://example.org/a"), None));
    let layout = MetaRequest { layout: Some(Default::default()), ..MetaRequest::default() };
    client.resolve_image_config("a", layout).await.expect("an answer");
    assert_eq!(asked.lock().images[1].resolver_type, 1);
}

/// Ends as told.
struct Ends(Result<GatewayResult, RemoteError>);

#[async_trait]
impl BuildFunction for Ends {
    async fn build(&self, client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError> {
        client.solve(SolveRequest::default()).await?;
        self.0.clone()
    }
}

#[tokio::test]
async fn builds_end_as_their_frontends() {
    let (client, asked, _daemon) = client(OLD, Settings::default()).await;
    let mut result = client.solve(SolveRequest::default()).await.expect("a result");
    result.metadata.insert("key".to_owned(), "value".into());
    let metadata = client.clone().run(&Ends(Ok(result.clone()))).await.expect("an end");
    assert_eq!(metadata["key"], "value");
    let returned = asked.lock().returned.remove(0).result.expect("a result");
    // It has not heard of refs with definitions.
    assert_eq!(returned.result, Some(pb::result::Result::RefDeprecated("old".to_owned())));

    let refs = ["a", "b"].map(|key| (key.to_owned(), result.iter().next().cloned()));
    let many = GatewayResult { refs: buildkit_solver_result::Refs::Many(refs.into()), ..result };
    for (end, text) in [
        (Ok(many), "returnmap"),
        (Err(RemoteError::new(Kind::InvalidArgument, "cannot be built")), "cannot be built"),
    ] {
        let error = client.clone().run(&Ends(end)).await.expect_err("no result");
        assert!(error.message.contains(text), "{error}");
        // Whoever waits for the build is told the same.
        let returned = asked.lock().returned.remove(0);
        assert_eq!((returned.result, returned.error.expect("an error").message), (None, error.message));
    }
}
