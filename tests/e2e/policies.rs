//! Rules and decisions about what sources of builds may be.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_client::gateway::{
    BuildFunction, GatewayClient, GatewayResult, ImageConfigError, MetaRequest, RemoteError, SolveRequest,
};
use buildkit_client::{BuildRequest, Client};
use buildkit_client_llb::{Constraints, FileActions, MarshalOptions, State, copy, image, local, scratch};
use buildkit_frontend_gateway_pb::{
    ResolveSourceImageRequest, ResolveSourceMetaRequest, ResolveSourceMetaResponse,
};
use buildkit_session_pb::policysession::{CheckPolicyRequest, DecisionResponse, DenyMessage};
use buildkit_solver_pb::{SourceOp, map};
use buildkit_sourcepolicy_pb::{Policy, PolicyAction, from_json};
use buildkit_sourcepolicy_policysession::{PolicyAnswer, PolicyVerifier, denials};
use buildkit_util_testutil::{Image, Layer, Registry, Run};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::dockerfiles::Context;
use crate::sandbox::{Sandbox, to_directory};

/// An image with nothing but a file `said`.
fn saying(text: &str) -> Image {
    Image::new("linux/amd64", &[Layer::new().file("said", 0o644, text)], json!({}))
}

/// What a build of an image has, as a graph that takes one file of it.
fn said(name: &str) -> State {
    scratch().file(FileActions::from(copy(image(name).state(), "/said", "/said")))
}

trait WithPolicy {
    fn policy(self, sandbox: &Sandbox, policy: &Value) -> Run;
}

impl WithPolicy for Run {
    fn policy(self, sandbox: &Sandbox, policy: &Value) -> Run {
        let path = sandbox.path("policy.json");
        fs_err::write(&path, policy.to_string()).expect("a policy");
        self.arg("--source-policy-file").arg(path)
    }
}

fn deny(identifier: &str) -> Value {
    json!({"action": "DENY", "selector": {"identifier": identifier}})
}

fn convert(identifier: &str, to: &str) -> Value {
    json!({"action": "CONVERT", "selector": {"identifier": identifier}, "updates": {"identifier": to}})
}

fn rules(rules: Vec<Value>) -> Value {
    json!({"version": 1, "rules": rules})
}

fn exported(sandbox: &Sandbox) -> PathBuf {
    let out = sandbox.path("out");
    let _ = fs_err::remove_dir_all(&out);
    out
}

#[test]
fn denied_images_are_refused() {
    let (mut sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&saying("a"), "team/app", "v1");
    let source = format!("docker-image://{name}");
    for denied in [source.clone(), format!("docker-image://{}/*", registry.host()), "*".to_owned()] {
        let policy = rules(vec![deny(&denied)]);
        let text = sandbox.build(&said(&name)).policy(&sandbox, &policy).run().assert_fails().text();
        assert!(text.contains(&format!("source \"{source}\" denied by policy")), "{text}");
        assert!(text.contains("failed to load LLB: error evaluating the source policy"), "{text}");
    }
    // A Dockerfile's image is asked about before it is part of a graph.
    let context = Context::new(&sandbox, "context", &format!("FROM {name}\n"));
    let text =
        context.build(&sandbox).policy(&sandbox, &rules(vec![deny(&source)])).run().assert_fails().text();
    assert!(text.contains("could not resolve image due to policy"), "{text}");
    assert!(text.contains(&format!("source \"{source}\" denied by policy")), "{text}");
    // The last rule that matches decides.
    let policy = rules(vec![deny("*"), json!({"action": 0, "selector": {"identifier": source}})]);
    sandbox.build(&said(&name)).policy(&sandbox, &policy).run().assert_ok();
    sandbox.assert_serves("after denials");
}

#[test]
fn tags_are_pinned_to_digests() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let first = saying("first");
    let name = registry.push(&first, "team/app", "v1");
    registry.push(&saying("second"), "team/app", "v1");
    let pinned = format!("{name}@{}", first.digest());
    let policy = rules(vec![convert(&format!("docker-image://{name}"), &format!("docker-image://{pinned}"))]);

    let out = exported(&sandbox);
    let output = sandbox.build(&said(&name)).policy(&sandbox, &policy).args(to_directory(&out)).run();
    let text = output.assert_ok().text();
    assert_eq!(fs_err::read_to_string(out.join("said")).expect("a file"), "first");
    // The step is named after what it does.
    assert!(text.contains(&format!("docker-image://{pinned}")), "{text}");

    let context = Context::new(&sandbox, "context", &format!("FROM {name}\n"));
    let out = exported(&sandbox);
    context.build(&sandbox).policy(&sandbox, &policy).args(to_directory(&out)).run().assert_ok();
    assert_eq!(fs_err::read_to_string(out.join("said")).expect("a file"), "first");
    let out = exported(&sandbox);
    context.build(&sandbox).args(to_directory(&out)).run().assert_ok();
    assert_eq!(fs_err::read_to_string(out.join("said")).expect("a file"), "second");

    // A digest that there is not.
    let missing = format!("{name}@sha256:{}", "a".repeat(64));
    let policy =
        rules(vec![convert(&format!("docker-image://{name}"), &format!("docker-image://{missing}"))]);
    let text = sandbox.build(&said(&name)).policy(&sandbox, &policy).run().assert_fails().text();
    assert!(text.contains(&format!("{missing}: not found")), "{text}");
}

#[test]
fn images_become_directories_in_dockerfiles() {
    let sandbox = Sandbox::new();
    let context = Context::new(
        &sandbox,
        "context",
        "FROM scratch AS replace\nFROM scratch\nCOPY --from=replace /said /\n",
    );
    let replaced = Context::new(&sandbox, "replaced", "").file("said", "of the client");
    let out = exported(&sandbox);
    let build = |policy: &Value| {
        context
            .build(&sandbox)
            .args(["--local", &format!("test={}", replaced.path().display())])
            .args(["--opt", "context:replace=docker-image:example.invalid/nowhere:latest"])
            .policy(&sandbox, policy)
    };
    let image = "docker-image://example.invalid/nowhere:latest";
    let policy = rules(vec![convert(image, "local://test")]);
    build(&policy).args(to_directory(&out)).run().assert_ok();
    assert_eq!(fs_err::read_to_string(out.join("said")).expect("a file"), "of the client");
    // What takes its place may be denied in turn.
    let policy = rules(vec![convert(image, "local://test"), deny("local://test")]);
    let text = build(&policy).run().assert_fails().text();
    assert!(text.contains("source \"local://test\" denied by policy"), "{text}");
    // An image that a stage is based on has to stay one.
    let based = Context::new(&sandbox, "based", "FROM example.invalid/nowhere\n");
    let policy = rules(vec![convert(image, "local://test")]);
    let text = based.build(&sandbox).policy(&sandbox, &policy).run().assert_fails().text();
    let wanted = format!("ref mutated by policy to non-image: {image} -> local://test");
    assert!(text.contains(&wanted), "{text}");
}

#[test]
fn policies_hold_for_graphs_that_builds_find() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("graph");
    fs_err::create_dir_all(&dir).expect("a directory");
    let inner = scratch().file(FileActions::from(copy(local("other").state(), "/said", "/said")));
    let inner = inner.marshal(&MarshalOptions::new()).expect("a graph").encode_to_vec();
    fs_err::write(dir.join("graph.llb"), inner).expect("a graph");
    let other = Context::new(&sandbox, "other", "").file("said", "found");
    let outer = local("graph").state().build("graph.llb", Constraints::new());
    let build = || {
        sandbox
            .build(&outer)
            .args(["--local", &format!("graph={}", dir.display())])
            .args(["--local", &format!("other={}", other.path().display())])
    };
    let text = build().policy(&sandbox, &rules(vec![deny("local://other")])).run().assert_fails().text();
    assert!(text.contains("source \"local://other\" denied by policy"), "{text}");
    build().run().assert_ok();
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let mut sandbox = Sandbox::new();
    let of_file = |content: &str| {
        let path = sandbox.path("policy.json");
        fs_err::write(&path, content).expect("a policy");
        let run = sandbox.build(&said("example.invalid/a:1")).arg("--source-policy-file").arg(path);
        run.run().assert_fails().text()
    };
    for (content, wanted) in [
        ("{", "failed to unmarshal source-policy-file"),
        (r#"{"rules": [{"action": "MAYBE"}]}"#, "rules[0].action: unrecognized enum PolicyAction value"),
        (r#"{"rules": [{"action": 7}]}"#, "rules[0].action: invalid PolicyAction value: 7"),
        (r#"{"rules": [{"action": "DENY"}]}"#, "invalid nil selector in policy"),
        (
            r#"{"rules": [{"action": "CONVERT", "selector": {"identifier": "*"}}]}"#,
            "error mutating source policy: missing destination for convert rule",
        ),
        (
            r#"{"rules": [{"action": "DENY", "selector": {"identifier": "a**"}}]}"#,
            "error matching source policy: failed to translate wildcard",
        ),
        (
            r#"{"rules": [{"action": "DENY", "selector": {"identifier": "(", "match_type": "REGEX"}}]}"#,
            "error matching source policy: error parsing regexp: unclosed group",
        ),
        (
            r#"{"rules": [{"action": "DENY", "selector":
                {"identifier": "((((a{100}){100}){100}){100}){100}", "match_type": "REGEX"}}]}"#,
            "expression too large",
        ),
    ] {
        let text = of_file(content);
        assert!(text.contains(wanted), "{content}: {text}");
    }
    let swap = rules(vec![
        convert("docker-image://example.invalid/a:1", "docker-image://example.invalid/b:1"),
        convert("docker-image://example.invalid/b:1", "docker-image://example.invalid/a:1"),
    ]);
    let text = of_file(&swap.to_string());
    assert!(text.contains("too many mutations on a single source: too many operations"), "{text}");
    let grow = rules(vec![convert("docker-image://*", &format!("docker-image://{}", "${1}/".repeat(99)))]);
    let text = of_file(&grow.to_string());
    assert!(text.contains("identifier has more than 65536 bytes"), "{text}");
    let many = rules(vec![deny("x"); 10_001]);
    let text = of_file(&many.to_string());
    assert!(text.contains("at most 10000 are allowed"), "{text}");
    let path = sandbox.path("nowhere.json");
    let run = sandbox.build(&said("example.invalid/a:1")).arg("--source-policy-file").arg(path);
    let text = run.run().assert_fails().text();
    assert!(text.contains("nowhere.json"), "{text}");
    sandbox.assert_serves("after policies");
}

/// Gives the answers that a test has made, in order, and keeps what it was asked.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<PolicyAnswer>>,
    asked: Mutex<Vec<CheckPolicyRequest>>,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = PolicyAnswer>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() })
    }

    /// The sources that it was asked about.
    fn sources(&self) -> Vec<ResolveSourceMetaResponse> {
        self.asked.lock().iter().filter_map(|asked| asked.source.clone()).collect()
    }
}

#[async_trait]
impl PolicyVerifier for Scripted {
    async fn check(&self, request: CheckPolicyRequest) -> Result<PolicyAnswer, RemoteError> {
        self.asked.lock().push(request);
        let mut answers = self.answers.lock();
        // The last one stays.
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        answer.ok_or_else(|| RemoteError::new(buildkit_errdefs::Kind::Unknown, "policy has nothing to say"))
    }
}

fn decision(action: PolicyAction) -> DecisionResponse {
    DecisionResponse { action: action.into(), ..DecisionResponse::default() }
}

fn allow() -> PolicyAnswer {
    PolicyAnswer::Decision(decision(PolicyAction::Allow))
}

fn instead(source: SourceOp) -> PolicyAnswer {
    let update = Some(source);
    PolicyAnswer::Decision(DecisionResponse { update, ..decision(PolicyAction::Convert) })
}

fn source_of(identifier: &str) -> SourceOp {
    SourceOp { identifier: identifier.to_owned(), attrs: Vec::new() }
}

fn ask(identifier: &str) -> ResolveSourceMetaRequest {
    ResolveSourceMetaRequest { source: Some(source_of(identifier)), ..Default::default() }
}

async fn client(sandbox: &Sandbox) -> Client {
    let address = sandbox.daemon.address().parse().expect("an address");
    Client::connect(&address, None).await.expect("a daemon")
}

/// Builds a graph whose sources a verifier decides about.
async fn verified(
    sandbox: &Sandbox,
    state: &State,
    verifier: Arc<Scripted>,
) -> buildkit_client::Result<buildkit_client::BuildResponse> {
    let definition = state.marshal(&MarshalOptions::new()).expect("a graph");
    let request = BuildRequest { source_policy_verifier: Some(verifier), ..BuildRequest::of(definition) };
    let (sender, mut receiver) = mpsc::channel(16);
    let client = client(sandbox).await;
    let build = client.build(request, sender, Default::default());
    tokio::join!(build, async { while receiver.recv().await.is_some() {} }).0
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_decide_about_each_source() {
    let (mut sandbox, registry) = (Sandbox::new(), Registry::start());
    let first = saying("first");
    let name = registry.push(&first, "team/app", "v1");
    let source = format!("docker-image://{name}");
    let state = said(&name);

    let verifier = Scripted::new([allow()]);
    verified(&sandbox, &state, verifier.clone()).await.expect("allowed");
    let sources = verifier.sources();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].source.as_ref().expect("a source").identifier, source);
    assert!(sources[0].image.is_none(), "nothing was found out yet");

    // More is to be known first.
    let verifier = Scripted::new([PolicyAnswer::Ask(Box::new(ask(&source))), allow()]);
    verified(&sandbox, &state, verifier.clone()).await.expect("allowed");
    let sources = verifier.sources();
    assert_eq!(sources.len(), 2);
    let found = sources[1].image.as_ref().expect("an image");
    assert_eq!(found.digest, first.digest());
    let config: Value = serde_json::from_slice(&found.config).expect("a configuration");
    assert_eq!(config["os"], "linux");

    // Something else takes its place, and is asked about.
    registry.push(&saying("second"), "team/other", "v1");
    let other = source_of(&format!("docker-image://{}/team/other:v1", registry.host()));
    let verifier = Scripted::new([instead(other.clone()), allow()]);
    verified(&sandbox, &state, verifier.clone()).await.expect("allowed");
    assert_eq!(verifier.sources()[1].source, Some(other));

    // Denied, with reasons.
    let reasons = ["use another", "not this"].map(|text| DenyMessage { message: text.to_owned() });
    let denied = DecisionResponse { deny_messages: reasons.to_vec(), ..decision(PolicyAction::Deny) };
    let error = verified(&sandbox, &state, Scripted::new([PolicyAnswer::Decision(denied)])).await;
    let error = error.expect_err("denied");
    let wanted = format!("source \"{source}\" not allowed by policy: action DENY");
    assert!(error.to_string().contains(&wanted), "{error}");
    assert_eq!(denials(error.remote().expect("the daemon's words")), ["use another", "not this"]);
    sandbox.assert_serves("after decisions");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_decide_nonsense_are_refused() {
    let (mut sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&saying("a"), "team/app", "v1");
    let source = format!("docker-image://{name}");
    let asks = |request: ResolveSourceMetaRequest| PolicyAnswer::Ask(Box::new(request));
    let changed = SourceOp {
        attrs: map::from_map([("image.layerlimit".to_owned(), "1".to_owned())]),
        ..source_of(&source)
    };
    let attestations =
        ResolveSourceImageRequest { attestation_chain: true, ..ResolveSourceImageRequest::default() };
    for (answer, calls, wanted) in [
        (instead(source_of(&source)), 10, "too many policy requests"),
        (asks(ask(&source)), 10, "too many policy requests"),
        (
            PolicyAnswer::Decision(decision(PolicyAction::Convert)),
            1,
            "convert action requires updated source",
        ),
        (
            PolicyAnswer::Decision(DecisionResponse { action: 9, ..Default::default() }),
            1,
            "not allowed by policy: action 9",
        ),
        (asks(ask("local://other")), 1, "policy requested different source identifier: \"local://other\""),
        (asks(ResolveSourceMetaRequest::default()), 1, "policy requested different source identifier"),
        (
            asks(ResolveSourceMetaRequest { source: Some(changed), ..Default::default() }),
            1,
            "policy requested different source attrs",
        ),
        (
            asks(ResolveSourceMetaRequest { image: Some(attestations), ..ask(&source) }),
            1,
            "error resolving source metadata from policy request: Attestations of images are not implemented",
        ),
        (instead(source_of("nonsense")), 10, "too many policy requests"),
        (instead(source_of(&"x".repeat(1 << 20))), 10, "too many policy requests"),
    ] {
        let verifier = Scripted::new([answer]);
        let error = verified(&sandbox, &said(&name), verifier.clone()).await.expect_err(wanted);
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
        assert_eq!(verifier.sources().len(), calls, "{wanted}");
    }
    let error = verified(&sandbox, &said(&name), Scripted::new([])).await.expect_err("an error");
    assert!(error.to_string().contains("policy has nothing to say"), "{error}");
    // What takes its place has to make sense in the end.
    let answers = [instead(source_of("nonsense")), allow()];
    let error = verified(&sandbox, &said(&name), Scripted::new(answers)).await.expect_err("no source");
    assert!(error.to_string().contains("failed to parse nonsense: invalid"), "{error}");
    sandbox.assert_serves("after nonsense");
}

/// A function from a closure.
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

fn policy(policy: &Value) -> Policy {
    from_json(policy.to_string().as_bytes()).expect("a policy")
}

#[tokio::test(flavor = "multi_thread")]
async fn frontends_have_rules_of_their_own() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&saying("a"), "team/app", "v1");
    registry.push(&saying("b"), "team/other", "v1");
    let other = format!("{}/team/other:v1", registry.host());
    let request = BuildRequest::default();
    let function = {
        let name = name.clone();
        move |client: Arc<dyn GatewayClient>| {
            let (name, other) = (name.clone(), other.clone());
            async move {
                let rule = convert(&format!("docker-image://{name}"), &format!("docker-image://{other}"));
                let to_other = MetaRequest {
                    source_policies: vec![policy(&rules(vec![deny("local://*"), rule]))],
                    ..MetaRequest::default()
                };
                let found = client.resolve_image_config(&name, to_other).await?;
                assert_eq!(found.reference, other);
                let to_directory = MetaRequest {
                    source_policies: vec![policy(&rules(vec![convert("*", "local://dir")]))],
                    ..MetaRequest::default()
                };
                match client.resolve_image_config(&name, to_directory).await {
                    Err(ImageConfigError::NotAnImage { updated, .. }) => assert_eq!(updated, "local://dir"),
                    answer => panic!("{answer:?}"),
                }
                let graph = |identifier: &str| SolveRequest {
                    evaluate: true,
                    definition: Some(said(&name).marshal(&MarshalOptions::new()).expect("a graph")),
                    source_policies: vec![policy(&rules(vec![deny(identifier)]))],
                    ..SolveRequest::default()
                };
                let error = client.solve(graph("docker-image://*")).await.map(drop).expect_err("denied");
                assert!(error.message.contains("denied by policy"), "{error}");
                client.solve(graph("local://*")).await
            }
        }
    };
    let (sender, mut receiver) = mpsc::channel(16);
    let client = client(&sandbox).await;
    let build = client.build_with(request, Arc::new(Function(function)), sender, Default::default());
    tokio::join!(build, async { while receiver.recv().await.is_some() {} }).0.expect("builds");
}
