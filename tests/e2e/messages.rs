//! Messages that no client of good will sends.

use std::sync::Arc;
use std::time::Duration;

use buildkit_api_services_control::{BytesMessage, control_client::ControlClient};
use buildkit_client_llb::{CacheSharing, Mount};
use buildkit_frontend_gateway_pb as gw;
use buildkit_solver_pb as pb;
use bytes::Bytes;
use futures::StreamExt as _;
use tonic::{Code, Request, Status};

use crate::client::{build_id, connect};
use crate::driven::{Driven, definition};
use crate::graph::{Graph, file, mkdir};
use crate::sandbox::{Sandbox, base, to_directory};
use crate::wire::{Schema, Value, call};

/// What the daemon serves.
pub const SERVICES: [&str; 3] = [
    "moby.buildkit.v1.Control",
    "moby.buildkit.v1.frontend.LLBBridge",
    "opentelemetry.proto.collector.trace.v1.TraceService",
];

/// Stands for the ref of a build in prepared messages; as long as one.
const REF: &str = "refrefrefrefrefrefrefrefr";

/// Calls that wait for a client that never comes are given up after this.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Requests of a method with one thing wrong each: of one with all fields, and of one that would be served.
fn broken_requests(schema: &Schema, message: &str) -> Vec<Bytes> {
    let definition = definition();
    let given = |message: &str, field: &str| -> Option<Vec<Value>> {
        match (message, field) {
            (".pb.Definition", "def") => Some(definition.def.iter().cloned().map(Value::Bytes).collect()),
            (".pb.Definition.MetadataEntry", "key") => {
                Some(vec![Value::text(definition.metadata[0].key.as_deref().unwrap_or_default())])
            }
            (".moby.buildkit.v1.SolveRequest", "Ref") => Some(vec![Value::text("build-00000000")]),
            (".moby.buildkit.v1.frontend.Ref", "id") => Some(vec![Value::text(REF)]),
            (_, "Ref" | "refDeprecated") if message.starts_with(".moby.buildkit.v1.frontend.") => {
                Some(vec![Value::text(REF)])
            }
            (".moby.buildkit.v1.frontend.WarnRequest", "digest") => {
                Some(vec![Value::text(&format!("sha256:{}", "0".repeat(64)))])
            }
            // It would be the error of all.
            (".moby.buildkit.v1.frontend.ReturnRequest", "error") => Some(Vec::new()),
            (
                ".moby.buildkit.v1.frontend.Result",
                "attestations" | "refDeprecated" | "refsDeprecated" | "refs",
            ) => Some(Vec::new()),
            _ => None,
        }
    };
    let plain = |message: &str, field: &str| {
        let is_solve =
            message.ends_with("SolveRequest") && !matches!(field, "Ref" | "Definition" | "Evaluate");
        if is_solve { Some(Vec::new()) } else { given(message, field) }
    };
    let full = |message: &str, field: &str| match (message, field) {
        (".moby.buildkit.v1.frontend.ReturnRequest", _) | (".moby.buildkit.v1.frontend.Result", _) => None,
        _ => given(message, field),
    };
    let mut all: Vec<Bytes> = [schema.sample(message, &full), schema.sample(message, &plain)]
        .iter()
        .flat_map(|sample| [vec![sample.clone()], sample.broken()].concat())
        .map(|value| value.encode().into())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Puts the ids of this call in the place of those that stand for them.
fn with_ids(body: &[u8], reference: &str) -> Bytes {
    let mut body = body.to_vec();
    for (from, to) in [(REF, reference), ("build-00000000", &build_id())] {
        assert_eq!(from.len(), to.len(), "{to}");
        let mut at = 0;
        while let Some(found) = body[at..].windows(from.len()).position(|part| part == from.as_bytes()) {
            at += found;
            body[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
    }
    body.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_05_odd_messages_end_nothing_but_their_call() {
    let mut sandbox = Sandbox::new();
    let id = sandbox.daemon.id();
    // Somebody else builds all the time.
    let gate = |script: &str| {
        let run = base()
            .run()
            .args(["/bin/sh", "-c", script])
            .mount("/gate", Mount::cache("gate", CacheSharing::Shared));
        run.mount("/out", Mount::scratch()).done().mount("/out").expect("a mount")
    };
    let out = sandbox.path("other");
    let waiting =
        "echo started-other; until [ -e /gate/open ]; do sleep 0.1; done; echo survived > /out/result";
    let mut other =
        sandbox.build(&gate(waiting)).args(to_directory(&out)).deadline(Duration::from_secs(900)).start();
    tokio::task::block_in_place(|| other.wait_for_text("started-other\n"));

    let schema = Arc::new(Schema::load());
    let channel = connect(&sandbox).await;
    let mut sent = 0;
    let mut wrong = Vec::new();
    for method in schema.methods(&SERVICES) {
        let is_bridge = method.path.contains("LLBBridge");
        let path = Arc::new(method.path);
        let requests = broken_requests(&schema, &method.input);
        sent += requests.len();
        let calls = requests.into_iter().map(|body| {
            let (channel, path) = (channel.clone(), path.clone());
            async move {
                let build = is_bridge.then(|| Driven::start(&channel, None));
                let reference = match &build {
                    Some(build) => build.reference().await?,
                    None => REF.to_owned(),
                };
                let body = with_ids(&body, &reference);
                let id = build.as_ref().map(|build| build.id.as_str());
                match tokio::time::timeout(PATIENCE, call(&channel, &path, id, body)).await {
                    Ok(answer) => answer,
                    // It waits for more of the client.
                    Err(_) => Ok(()),
                }
            }
        });
        let answers: Vec<Result<(), Status>> =
            futures::stream::iter(calls).buffer_unordered(8).collect().await;
        for status in answers.into_iter().filter_map(Result::err) {
            let undecodable = status.message().starts_with("failed to decode Protobuf message");
            let unclear = status.message().is_empty()
                || status.message().contains("panic")
                || matches!(
                    status.code(),
                    Code::Internal | Code::Unavailable | Code::Cancelled | Code::DataLoss
                ) && !undecodable;
            // Says that it has no collector.
            if unclear && !path.contains("TraceService") {
                wrong.push(format!("{path}: {status:?}"));
            }
        }
    }
    wrong.dedup();
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
    assert!(sent > 1000, "only {sent} messages");
    assert_eq!(sandbox.daemon.id(), id);
    assert!(!sandbox.daemon.log().contains("panicked"), "{}", sandbox.daemon.log());
    drop(channel);
    tokio::task::block_in_place(|| {
        sandbox.build(&gate("touch /gate/open")).run().assert_ok();
        other.wait().assert_ok();
        assert_eq!(fs_err::read_to_string(out.join("result")).expect("result"), "survived\n");
        sandbox.assert_serves("after odd messages");
    });
}

/// What is refused as the client's fault, with the text that says why.
#[tokio::test(flavor = "multi_thread")]
async fn a1_05_what_is_missing_is_named() {
    let sandbox = Sandbox::new();
    let channel = connect(&sandbox).await;
    let check = |what: &str, answer: Result<(), Status>, codes: &[Code], text: &str| {
        let status = answer.expect_err(what);
        assert!(codes.contains(&status.code()) && status.message().contains(text), "{what}: {status:?}");
    };
    let invalid = [Code::InvalidArgument];

    let build = Driven::start(&channel, None);
    let mut bridge = build.bridge();
    let answer = bridge.r#return(build.request(gw::ReturnRequest::default())).await.map(drop);
    check("nothing returned", answer, &invalid, "neither a result nor an error");
    for digest in ["", "x", "sha256:", "sha256:../x", ":x"] {
        let warning = gw::WarnRequest { digest: digest.to_owned(), ..gw::WarnRequest::default() };
        let answer = bridge.warn(build.request(warning)).await.map(drop);
        check("warning", answer, &invalid, digest);
    }
    // Parts that may be missing.
    let warning = gw::WarnRequest {
        digest: format!("sha256:{}", "0".repeat(64)),
        level: i64::MIN,
        detail: vec![Bytes::new()],
        ranges: vec![pb::Range::default()],
        info: Some(pb::SourceInfo::default()),
        ..gw::WarnRequest::default()
    };
    bridge.warn(build.request(warning)).await.expect("a warning of little");
    let answer = bridge.evaluate(build.request(gw::EvaluateRequest::default())).await.map(drop);
    check("no ref", answer, &[Code::NotFound, Code::InvalidArgument], "ref");
    let reference = build.reference().await.expect("a ref");
    for (offset, length) in [(-1, 1), (0, -1), (i64::MIN, i64::MIN)] {
        let request = gw::ReadFileRequest {
            r#ref: reference.clone(),
            file_path: "d".into(),
            range: Some(gw::FileRange { offset, length }),
            ..gw::ReadFileRequest::default()
        };
        let answer = bridge.read_file(build.request(request)).await.map(drop);
        check("range", answer, &invalid, "");
    }
    let attributes = [&b""[..], b"{", b"null", b"[]", b"{\"a\":1}", b"{\"a\":\"!\"}"];
    for attributes in attributes.into_iter().map(<[u8]>::to_vec).chain([vec![b'['; 1_000_000]]) {
        let request = gw::SolveRequest {
            definition: Some(definition()),
            r#final: true,
            exporter_attr: attributes.into(),
            ..gw::SolveRequest::default()
        };
        let answer = bridge.solve(build.request(request)).await.map(drop);
        check("attributes", answer, &invalid, "exporter attributes");
    }
    let definition_of = |platform: Option<pb::Platform>| {
        let mut graph = Graph::default();
        let last = graph.add(&pb::Op { platform, ..file(vec![], vec![mkdir(-1, 0)]) });
        graph.finish(&last)
    };
    for definition in [definition_of(None), definition_of(Some(pb::Platform::default()))] {
        let request = gw::SolveRequest { definition: Some(definition), evaluate: true, ..Default::default() };
        bridge.solve(build.request(request)).await.expect("the platform of the worker");
    }
    for build_id in ["", "none"] {
        let mut request = Request::new(gw::PingRequest::default());
        request.metadata_mut().insert("buildkit-controlapi-buildid", build_id.parse().expect("an id"));
        assert!(bridge.ping(request).await.is_err(), "{build_id:?}");
    }
    assert!(bridge.ping(gw::PingRequest::default()).await.is_err());

    // Results whose metadata says nonsense.
    let deep = format!("{{\"Platforms\":{}", "[".repeat(1_000_000));
    let platforms = [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "{\"Platforms\":null}",
        "{\"Platforms\":[null]}",
        "{\"Platforms\":[{}]}",
        &deep,
    ];
    for several in [false, true] {
        for json in platforms {
            let build = Driven::start(&channel, Some("local"));
            let reference = gw::Ref { id: build.reference().await.expect("a ref"), def: None };
            let result = if several {
                let refs = [("linux/amd64".to_owned(), reference.clone()), (String::new(), reference)];
                gw::result::Result::Refs(gw::RefMap { refs: refs.into() })
            } else {
                gw::result::Result::Ref(reference)
            };
            let metadata = [("refs.platforms".to_owned(), Bytes::copy_from_slice(json.as_bytes()))].into();
            let result = gw::Result { metadata, result: Some(result), ..gw::Result::default() };
            let status = build.r#return(result).await.expect_err("there is no session to export to");
            assert!(!status.message().is_empty(), "{json:.40}: {status:?}");
        }
    }
    assert!(!sandbox.daemon.log().contains("panicked"), "{}", sandbox.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_05_odd_sessions_end_alone() {
    let mut sandbox = Sandbox::new();
    let before = sandbox.daemon.census();
    let channel = connect(&sandbox).await;
    let id = "x-docker-expose-session-uuid";
    let long = "x".repeat(1 << 20);
    let headers: [Vec<(&str, &str)>; 7] = [
        vec![],
        vec![(id, "")],
        vec![(id, "a"), (id, "b")],
        vec![
            (id, "../../x"),
            ("x-docker-expose-session-name", ""),
            ("x-docker-expose-session-sharedkey", "/"),
        ],
        vec![(id, "c"), ("x-docker-expose-session-grpc-method", "nonsense")],
        vec![
            (id, "d"),
            ("x-docker-expose-session-grpc-method", "/"),
            ("x-docker-expose-session-grpc-method", ""),
        ],
        vec![(id, &long)],
    ];
    let preface = [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0xff; 4096]].concat();
    let bodies: [Vec<Vec<u8>>; 5] =
        [vec![], vec![vec![]], vec![vec![0xff; 100_000]], vec![preface.clone()], vec![vec![]; 1000]];
    for headers in &headers {
        for body in &bodies {
            let messages =
                body.iter().map(|data| BytesMessage { data: data.clone().into() }).collect::<Vec<_>>();
            let mut request = Request::new(futures::stream::iter(messages));
            for (name, value) in headers {
                request.metadata_mut().append(*name, value.parse().expect("text"));
            }
            let mut client = ControlClient::new(channel.clone());
            let talk = async {
                let mut stream = client.session(request).await?.into_inner();
                while stream.message().await?.is_some() {}
                Ok::<(), Status>(())
            };
            // The daemon may wait for more, but not longer than the client is there.
            if let Ok(Err(status)) = tokio::time::timeout(PATIENCE, talk).await {
                assert!(!status.message().contains("panic"), "{status:?}");
            }
        }
    }
    drop(channel);
    tokio::task::block_in_place(|| {
        sandbox.daemon.assert_nothing_left(&before);
        sandbox.assert_serves("after odd sessions");
    });
    assert!(!sandbox.daemon.log().contains("panicked"), "{}", sandbox.daemon.log());
}
