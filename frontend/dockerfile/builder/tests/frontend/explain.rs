//! What is said about files that are not there, and that nothing of it is said when it cannot be found out.

use std::sync::Arc;

use buildkit_errdefs::Kind;
use buildkit_frontend_dockerfile_builder::DockerfileFrontend;
use buildkit_frontend_gateway_client::{BuildFunction as _, RemoteError, Stat};
use buildkit_solver_errdefs::{self as errdefs, Subject};
use buildkit_solver_pb::{Definition, Op, op};
use buildkit_util_cachedigest::Digest;
use prost::Message as _;

use crate::fake::{Answers, FakeClient, Given};

const DOCKERFILE: &str = "FROM scratch\nCOPY app.jsx /\n";

/// Attributes of files as a directory of a client comes with them.
fn listing(names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names {
        let stat = Stat { path: (*name).to_owned(), mode: 0o644, ..Stat::default() }.encode_to_vec();
        out.extend(u32::try_from(stat.len()).expect("small").to_le_bytes());
        out.extend(stat);
    }
    out
}

fn given(ignore_file: &str, names: &[&str], answers: Answers) -> Arc<FakeClient> {
    FakeClient::new(Given {
        dockerfile: DOCKERFILE.into(),
        ignore_file: ignore_file.to_owned(),
        listing: listing(names),
        answers,
        ..Given::default()
    })
}

/// The graph of the file.
async fn graph() -> Arc<Definition> {
    let result = DockerfileFrontend.build(given("*.log\n", &[], Answers::Right)).await.expect("a result");
    result.iter().next().and_then(|tree| tree.definition()).expect("a graph")
}

/// The error of the step that copies.
fn error(graph: &Definition, text: &str) -> RemoteError {
    let is_file = |data: &&prost::bytes::Bytes| {
        let op = Op::decode((*data).clone()).ok().and_then(|op| op.op);
        matches!(op, Some(op::Op::File(_)))
    };
    let step = graph.def.iter().find(is_file).expect("a step");
    let subject = Some(Subject::Cache(0));
    RemoteError::new(Kind::NotFound, text).with(errdefs::vertex(&Digest::sha256(step))).with(errdefs::solve(
        &["of the input".to_owned()],
        &[],
        None,
        subject,
        &Default::default(),
    ))
}

fn missing(path: &str) -> String {
    format!("failed to compute cache key: failed to calculate checksum of ref input-0: {path:?}: not found")
}

async fn explained(client: Arc<FakeClient>, path: &str) -> String {
    let graph = graph().await;
    let plain = error(&graph, &missing(path));
    let told = DockerfileFrontend.explain(client, Some(graph), plain.clone()).await;
    assert_eq!((told.kind, &told.details), (plain.kind, &plain.details));
    let first = missing(path).replace("input-0", "context");
    assert_eq!(told.message.lines().next(), Some(first.as_str()));
    told.message.strip_prefix(&first).expect("the error itself").trim_start().to_owned()
}

#[tokio::test]
async fn files_that_are_not_there_are_explained() {
    for (path, names, hint) in [
        ("/app.jsx", &["app.js", "app.ts", "b.log"][..], "hint: did you mean /app.js or /app.ts?"),
        ("/other", &["app.js", "b.log"], "hint: / has app.js"),
        ("/b.log", &["app.js", "b.log"], "hint: /b.log is left out by .dockerignore:2: *.log"),
        ("/app.js/x", &["app.js"], "hint: /app.js is not a directory"),
        ("/x", &["c.log"], "hint: all of / is left out by an ignore file"),
        ("/x", &[], "hint: the directory given as `context` is empty"),
        ("/x", &["x\u{1b}y"], "hint: / has x\u{fffd}y"),
        ("/app.js", &["app.js"], ""),
    ] {
        let client = given("# logs\n*.log\n", names, Answers::Right);
        assert_eq!(explained(client, path).await, hint, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_found_out_is_not_said() {
    for answers in [Answers::Errors, Answers::Never, Answers::Garbage] {
        let client = given("*.log\n", &["app.js"], answers);
        let hint = explained(client, "/app.jsx").await;
        let is_garbage = matches!(answers, Answers::Garbage);
        assert!(hint.is_empty() || (is_garbage && hint.ends_with("is empty")), "{answers:?}: {hint}");
    }
    // Errors of other kinds, and of other graphs.
    let graph = graph().await;
    let client = || given("*.log\n", &["app.js"], Answers::Right);
    for error in [
        error(&graph, "something else"),
        error(&graph, &missing("/\u{0}")),
        RemoteError::new(Kind::NotFound, missing("/app.jsx")),
        error(&graph, &missing("/app.jsx")).with(errdefs::vertex(&Digest::sha256("other"))),
    ] {
        let other = Arc::new(Definition::default());
        assert_eq!(DockerfileFrontend.explain(client(), Some(other), error.clone()).await, error);
        assert_eq!(DockerfileFrontend.explain(client(), None, error.clone()).await, error);
    }
}
