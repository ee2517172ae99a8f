//! Functions that run as frontends of a daemon, on a bridge that makes only empty trees.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::ImmutableRef;
use buildkit_client_llb_sourceresolver::{ImageMeta, MetaRequest, MetaResponse};
use buildkit_errdefs::Kind;
use buildkit_frontend::{
    BridgeError, BridgeInfo, FailedState, FrontendRegistry, FrontendResult, LlbBridge, Reference,
    SolveRequest, WorkerInfo,
};
use buildkit_frontend_gateway_client::{
    BuildFunction, GatewayClient, GatewayResult, ReadDir, ReadFile, RemoteError,
};
use buildkit_frontend_gateway_forwarder::{BridgeClient, ForwardedFrontend};
use buildkit_solver_errdefs::{self as errdefs, ParsedDetail};
use buildkit_solver_pb::{Definition, SourceOp};
use buildkit_solver_result::{Attestation, AttestationKind, BuildResult, Refs};
use buildkit_util_apicaps::CapList;
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::VertexWarning;
use parking_lot::Mutex;

/// A graph that is an empty tree, or one whose step fails.
#[derive(Clone)]
enum Tree {
    Empty(Arc<Definition>),
    Failing,
}

#[async_trait]
impl Reference for Tree {
    fn definition(&self) -> Option<Arc<Definition>> {
        match self {
            Self::Empty(definition) => Some(definition.clone()),
            Self::Failing => None,
        }
    }

    async fn result(&self) -> Result<Option<ImmutableRef>, BridgeError> {
        match self {
            Self::Empty(_) => Ok(None),
            Self::Failing => Err(failure()),
        }
    }
}

fn failure() -> BridgeError {
    let state = FailedState { inputs: vec![None], op_json: Some("{}".to_owned()), ..FailedState::default() };
    let error = RemoteError::new(Kind::Unknown, "step failed").with(errdefs::exit(3));
    BridgeError { error, state: Some(Arc::new(state)) }
}

/// Solves nothing; graphs that contain `fail` fail when somebody looks into them.
struct Bridge {
    info: BridgeInfo,
    frontends: FrontendRegistry,
    warnings: Arc<Mutex<Vec<VertexWarning>>>,
}

impl Bridge {
    fn new(functions: Vec<(&'static str, Arc<dyn BuildFunction>)>) -> Self {
        let caps = CapList::new([]);
        let mut frontends = FrontendRegistry::new();
        for (name, function) in functions {
            frontends.register(Arc::new(ForwardedFrontend::new(name, function)));
        }
        let info = BridgeInfo {
            session_id: "session".to_owned(),
            workers: vec![WorkerInfo { id: "worker".to_owned(), ..WorkerInfo::default() }],
            product: "buildkit".to_owned(),
            llb_caps: caps.cap_set([]),
            frontend_caps: caps.cap_set([]),
        };
        Self { info, frontends, warnings: Arc::default() }
    }
}

#[async_trait]
impl LlbBridge for Bridge {
    fn info(&self) -> &BridgeInfo {
        &self.info
    }

    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BridgeError> {
        if !request.frontend.is_empty() {
            let frontend = self.frontends.get(&request.frontend)?;
            let bridge = Self {
                info: self.info.clone(),
                frontends: self.frontends.clone(),
                warnings: self.warnings.clone(),
            };
            return frontend.solve(Arc::new(bridge), request).await;
        }
        let Some(definition) = request.definition else { return Ok(BuildResult::default()) };
        let tree = if definition.def.iter().any(|op| op.as_ref() == b"fail") {
            Tree::Failing
        } else {
            Tree::Empty(Arc::new(definition))
        };
        if request.evaluate {
            tree.result().await?;
        }
        Ok(BuildResult::single(Some(Arc::new(tree) as Arc<dyn Reference>)))
    }

    async fn resolve_source(
        &self,
        source: SourceOp,
        request: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), BridgeError> {
        if source.identifier.ends_with("/http") {
            let identifier = "https://example.org/file".to_owned();
            return Ok((SourceOp { identifier, ..source }, MetaResponse::default()));
        }
        let config = (!request.no_config).then(|| "{}".into());
        let image = ImageMeta { digest: Digest::sha256(&source.identifier), config };
        let source = SourceOp { identifier: format!("{}:latest", source.identifier), ..source };
        Ok((source, MetaResponse { image: Some(image), ..MetaResponse::default() }))
    }

    fn warn(&self, warning: VertexWarning) -> Result<(), BridgeError> {
        self.warnings.lock().push(warning);
        Ok(())
    }
}

fn graph(op: &'static str) -> SolveRequest {
    SolveRequest {
        definition: Some(Definition { def: vec![op.into()], ..Definition::default() }),
        ..SolveRequest::default()
    }
}

fn call(frontend: &str) -> SolveRequest {
    SolveRequest { frontend: frontend.to_owned(), ..SolveRequest::default() }
}

/// A function from a closure that does not wait for anything but the client.
struct Function<F>(F);

#[async_trait]
impl<F, Fut> BuildFunction for Function<F>
where
    F: Fn(Arc<dyn GatewayClient>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<GatewayResult, RemoteError>> + Send + 'static,
{
    async fn build(&self, client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError> {
        self.0(client).await
    }
}

fn function<F, Fut>(function: F) -> Arc<dyn BuildFunction>
where
    F: Fn(Arc<dyn GatewayClient>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<GatewayResult, RemoteError>> + Send + 'static,
{
    Arc::new(Function(function))
}

/// Solves one graph and passes on what comes of it.
fn solving(op: &'static str) -> Arc<dyn BuildFunction> {
    function(move |client| async move { client.solve(graph(op)).await })
}

#[tokio::test]
async fn frontends_are_told_what_to_build() {
    let tell = function(|client| async move {
        let opts = client.build_opts();
        let inputs = client.inputs().await?;
        let mut result =
            client.solve(SolveRequest { definition: inputs.get("base").cloned(), ..graph("") }).await?;
        let told =
            format!("{} {} {} {}", opts.opts["target"], opts.session_id, opts.workers[0].id, opts.product);
        result.metadata.insert("told".to_owned(), told.into());
        Ok(result)
    });
    let bridge = Bridge::new(vec![("tell", tell)]);
    let base = graph("base").definition.expect("a graph");
    let request = SolveRequest {
        frontend_opt: BTreeMap::from([("target".to_owned(), "last".to_owned())]),
        frontend_inputs: BTreeMap::from([("base".to_owned(), base.clone())]),
        ..call("tell")
    };
    let result = bridge.solve(request).await.expect("a result");
    assert_eq!(result.metadata["told"], "last session worker buildkit");
    let tree = result.iter().next().expect("a tree");
    assert_eq!(tree.definition().as_deref(), Some(&base));
}

#[tokio::test]
async fn frontends_run_others() {
    let outer = function(|client| async move {
        let mut result = client.solve(call("inner")).await?;
        result.metadata.insert("outer".to_owned(), "was here".into());
        Ok(result)
    });
    let bridge = Bridge::new(vec![("outer", outer), ("inner", solving("op"))]);
    let result = bridge.solve(call("outer")).await.expect("a result");
    assert_eq!(result.metadata["outer"], "was here");
    assert_eq!(result.iter().count(), 1);
    let missing =
        Bridge::new(vec![("outer", function(|client| async move { client.solve(call("inner")).await }))]);
    let error = missing.solve(call("outer")).await.map(drop).expect_err("no such frontend");
    assert_eq!(error.to_string(), "invalid frontend: inner");
}

#[tokio::test]
async fn results_are_passed_on_whole() {
    let many = function(|client| async move {
        let one = client.solve(graph("one")).await?.iter().next().cloned();
        let statement = client.solve(graph("statement")).await?.iter().next().cloned();
        let attestation = Attestation {
            kind: AttestationKind::InToto,
            metadata: BTreeMap::new(),
            reference: statement,
            path: "/s.json".to_owned(),
            predicate_type: "https://example.org/predicate".to_owned(),
            subjects: Vec::new(),
        };
        Ok(GatewayResult {
            refs: Refs::Many([("a".to_owned(), one), ("b".to_owned(), None)].into()),
            metadata: BTreeMap::from([("key".to_owned(), "value".into())]),
            attestations: BTreeMap::from([("a".to_owned(), vec![attestation])]),
        })
    });
    let result = Bridge::new(vec![("many", many)]).solve(call("many")).await.expect("a result");
    let Refs::Many(refs) = &result.refs else { panic!("several trees") };
    let definition = |tree: &Arc<dyn Reference>| tree.definition().expect("a graph").def[0].clone();
    assert_eq!(refs["a"].as_ref().map(definition).as_deref(), Some(b"one".as_slice()));
    assert!(refs["b"].is_none());
    assert_eq!(result.metadata["key"], "value");
    let attestation = &result.attestations["a"][0];
    assert_eq!(attestation.reference.as_ref().map(definition).as_deref(), Some(b"statement".as_slice()));
}

#[tokio::test]
async fn trees_are_looked_into() {
    let bridge = Arc::new(Bridge::new(Vec::new()));
    let client = BridgeClient::new(bridge, BTreeMap::new(), BTreeMap::new());
    let result = client.solve(graph("op")).await.expect("a result");
    let tree = result.iter().next().expect("a tree");
    tree.evaluate().await.expect("empty");
    let all = ReadDir { path: "/".to_owned(), include_pattern: String::new() };
    assert_eq!(tree.read_dir(all).await.expect("a list"), []);
    let error = tree.read_file(ReadFile::whole("/etc/passwd")).await.expect_err("not there");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::NotFound, "open /etc/passwd: no such file or directory")
    );
    assert_eq!(client.get(tree.id()).expect("known").definition(), tree.definition());
    // A ref is known to the client that handed it out, and to no other.
    let other = BridgeClient::new(Arc::new(Bridge::new(Vec::new())), BTreeMap::new(), BTreeMap::new());
    let error = other.to_frontend(&result).map(drop).expect_err("nobody's");
    assert_eq!(error.message, format!("no such ref: {}", tree.id()));
}

#[tokio::test]
async fn images_are_looked_up() {
    let client = BridgeClient::new(Arc::new(Bridge::new(Vec::new())), BTreeMap::new(), BTreeMap::new());
    let found = client.resolve_image_config("example.org/a", MetaRequest::default()).await.expect("an image");
    assert_eq!(found.reference, "example.org/a:latest");
    assert_eq!(found.digest, Digest::sha256("docker-image://example.org/a"));
    assert_eq!(found.config, "{}");
    let layout = MetaRequest { layout: Some(Default::default()), no_config: true, ..MetaRequest::default() };
    let found = client.resolve_image_config("a", layout).await.expect("an image");
    assert_eq!((found.digest, found.config), (Digest::sha256("oci-layout://a"), "{}".into()));
    let error = client.resolve_image_config("a/http", MetaRequest::default()).await.expect_err("no image");
    assert_eq!(
        error.to_string(),
        "ref mutated by policy to non-image: docker-image://a/http -> https://example.org/file"
    );
}

#[tokio::test]
async fn states_of_failed_steps_outlive_frontends() {
    // The frontend and whoever runs it are told of the step by ids of their own.
    let looks = function(|client| async move {
        let result = client.solve(graph("fail")).await?;
        let tree = result.iter().next().expect("a tree").clone();
        let error = tree.evaluate().await.expect_err("fails");
        let is_told = |detail| matches!(errdefs::parse(detail), Some(ParsedDetail::Solve { .. }));
        assert_eq!(error.details.iter().filter(|detail| is_told(detail)).count(), 1);
        Err(RemoteError { message: format!("failed to look: {}", error.message), ..error })
    });
    let outer = function(|client| async move { client.solve(call("looks")).await });
    let bridge = Bridge::new(vec![("looks", looks), ("outer", outer)]);
    let error = bridge.solve(call("outer")).await.map(drop).expect_err("fails");
    assert_eq!(error.to_string(), "failed to look: step failed");
    assert_eq!(error.state.expect("a state").op_json.as_deref(), Some("{}"));
    assert_eq!(error.error.details, [errdefs::exit(3)], "ids of nobody are told to nobody");
}

/// Passes on a graph that fails, and says more about that; breaks when it is asked about it in vain.
struct Explaining {
    asked: Arc<Mutex<usize>>,
    breaks: bool,
}

#[async_trait]
impl BuildFunction for Explaining {
    async fn build(&self, client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError> {
        client.solve(graph("fail")).await
    }

    async fn explain(
        &self,
        client: Arc<dyn GatewayClient>,
        definition: Option<Arc<Definition>>,
        error: RemoteError,
    ) -> RemoteError {
        *self.asked.lock() += 1;
        assert!(!self.breaks, "an assumption that does not hold");
        assert_eq!((client.build_opts().opts["target"].as_str(), definition), ("last", None));
        let is_told = |detail| matches!(errdefs::parse(detail), Some(ParsedDetail::Solve { .. }));
        assert!(error.details.iter().any(is_told), "the state of the step can be looked into");
        RemoteError { message: format!("{}: as it had to", error.message), ..error }
    }
}

#[tokio::test]
async fn failures_after_the_frontend_has_returned_are_explained() {
    for breaks in [false, true] {
        let asked = Arc::new(Mutex::new(0));
        let bridge = Bridge::new(vec![("explains", Arc::new(Explaining { asked: asked.clone(), breaks }))]);
        let request = SolveRequest {
            frontend_opt: BTreeMap::from([("target".to_owned(), "last".to_owned())]),
            ..call("explains")
        };
        let result = bridge.solve(request).await.expect("a tree that is not made yet");
        let tree = result.iter().next().expect("a tree");
        for _ in 0..2 {
            let error = tree.result().await.map(drop).expect_err("fails");
            let told = if breaks { "step failed" } else { "step failed: as it had to" };
            assert_eq!(error.to_string(), told);
            assert_eq!(error.error.details, [errdefs::exit(3)]);
            assert_eq!(error.state.expect("a state").op_json.as_deref(), Some("{}"));
        }
        assert_eq!(*asked.lock(), 1, "once for all who want the tree");
    }
}

#[tokio::test]
async fn warnings_reach_the_build() {
    let warn = function(|client| async move {
        let warning = VertexWarning {
            vertex: Digest::sha256("op"),
            level: 1,
            short: "beware".into(),
            detail: Vec::new(),
            url: String::new(),
            source_info: None,
            ranges: Vec::new(),
        };
        client.warn(warning).await?;
        Ok(GatewayResult::default())
    });
    let bridge = Bridge::new(vec![("warn", warn)]);
    bridge.solve(call("warn")).await.expect("a result");
    assert_eq!(bridge.warnings.lock()[0].short, "beware");
}

#[tokio::test]
async fn a_frontend_that_panics_ends_its_build_alone() {
    let panics = function(|client| async move {
        assert!(client.build_opts().opts.contains_key("never given"), "an assumption that does not hold");
        Ok(GatewayResult::default())
    });
    let bridge = Bridge::new(vec![("panics", panics), ("works", solving("op"))]);
    let error = bridge.solve(call("panics")).await.map(drop).expect_err("no result");
    assert_eq!(error.error.kind, Kind::Internal);
    assert!(error.to_string().starts_with("Frontend `panics` ended without a result"), "{error}");
    bridge.solve(call("works")).await.expect("a result");
}

#[tokio::test]
async fn a_frontend_ends_with_its_build() {
    let (started, starts) = tokio::sync::oneshot::channel();
    let (ended, ends) = tokio::sync::oneshot::channel::<()>();
    let held = Mutex::new(Some((started, ended)));
    let waits = function(move |_| {
        let (started, ended) = held.lock().take().expect("runs once");
        async move {
            // Whoever cancels drops what the frontend holds.
            let _ended = ended;
            started.send(()).expect("somebody waits");
            std::future::pending().await
        }
    });
    let bridge = Bridge::new(vec![("waits", waits)]);
    tokio::select! {
        _ = bridge.solve(call("waits")) => panic!("it never ends"),
        started = starts => started.expect("it starts"),
    }
    assert!(ends.await.is_err(), "it is gone");
}
