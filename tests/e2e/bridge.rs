//! Clients that drive their builds themselves, over the bridge.

use std::collections::BTreeMap;
use std::time::Duration;

use buildkit_api_services_control::control_client::ControlClient;
use buildkit_api_services_control::{SolveRequest, StatusRequest, StatusResponse};
use buildkit_client_llb::{FileActions, MarshalOptions, State, mkdir, mkfile, rm, scratch, symlink};
use buildkit_frontend_gateway_pb as pb;
use buildkit_frontend_gateway_pb::llb_bridge_client::LlbBridgeClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::sandbox::Sandbox;

const BUILD: &str = "buildkit-controlapi-buildid";

/// One build: its solve waits for what the bridge returns.
struct Driven {
    id: String,
    channel: Channel,
    solve: tokio::task::JoinHandle<Result<(), Status>>,
}

impl Driven {
    async fn start(sandbox: &Sandbox, id: &str) -> Self {
        let channel = Endpoint::from_shared(sandbox.daemon.address()).unwrap().connect().await.unwrap();
        let mut control = ControlClient::new(channel.clone());
        let request = SolveRequest { r#ref: id.to_owned(), ..SolveRequest::default() };
        #[expect(clippy::disallowed_methods, reason = "a test has no tasks to account for")]
        let solve = tokio::spawn(async move { control.solve(request).await.map(drop) });
        Self { id: id.to_owned(), channel, solve }
    }

    fn bridge(&self) -> LlbBridgeClient<Channel> {
        LlbBridgeClient::new(self.channel.clone())
    }

    fn of<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(BUILD, self.id.parse().unwrap());
        request
    }

    /// The id of the ref that a graph is given; nothing of it is made.
    async fn solve(&self, state: &State) -> pb::Ref {
        let definition = state.marshal(&MarshalOptions::new()).unwrap();
        let request = pb::SolveRequest {
            definition: Some(definition),
            allow_result_return: true,
            allow_result_array_ref: true,
            ..pb::SolveRequest::default()
        };
        let answer = self.bridge().solve(self.of(request)).await.unwrap().into_inner();
        match answer.result.unwrap().result.unwrap() {
            pb::result::Result::Ref(reference) => reference,
            other => panic!("{other:?}"),
        }
    }

    async fn read(
        &self,
        reference: &str,
        path: &str,
        range: Option<pb::FileRange>,
    ) -> Result<Vec<u8>, Status> {
        let request = pb::ReadFileRequest {
            r#ref: reference.to_owned(),
            file_path: path.to_owned(),
            range,
            ..pb::ReadFileRequest::default()
        };
        Ok(self.bridge().read_file(self.of(request)).await?.into_inner().data.to_vec())
    }

    async fn finish(self, answer: pb::ReturnRequest) -> Result<(), Status> {
        self.bridge().r#return(self.of(answer)).await?;
        tokio::time::timeout(Duration::from_secs(60), self.solve).await.expect("an end").expect("a task")
    }
}

fn tree() -> State {
    scratch().file(
        FileActions::from(mkdir("/d", 0o750))
            .then(mkfile("/d/one.txt", 0o640, "0123456789"))
            .then(mkfile("/d/two.log", 0o644, ""))
            .then(symlink("d/one.txt", "/link")),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_refs_are_read() {
    let sandbox = Sandbox::new();
    let build = Driven::start(&sandbox, "reads").await;
    let reference = build.solve(&tree()).await;
    assert!(reference.def.is_some_and(|definition| !definition.def.is_empty()), "each ref has its graph");
    let id = reference.id.as_str();
    assert_eq!(build.read(id, "/d/one.txt", None).await.unwrap(), b"0123456789");
    assert_eq!(build.read(id, "/link", None).await.unwrap(), b"0123456789");
    let part = Some(pb::FileRange { offset: 3, length: 4 });
    assert_eq!(build.read(id, "/d/one.txt", part).await.unwrap(), b"3456");
    for path in ["/nothing", "/d", "/../../etc/passwd"] {
        assert!(build.read(id, path, None).await.is_err(), "{path}");
    }
    assert!(
        build.read("no such ref", "/d/one.txt", None).await.unwrap_err().message().contains("no such ref")
    );

    let list = async |include: &str| {
        let request = pb::ReadDirRequest {
            r#ref: id.to_owned(),
            dir_path: "/d".into(),
            include_pattern: include.into(),
            ..pb::ReadDirRequest::default()
        };
        let entries = build.bridge().read_dir(build.of(request)).await.unwrap().into_inner().entries;
        entries.into_iter().map(|stat| (stat.path, stat.size)).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [("one.txt".to_owned(), 10), ("two.log".to_owned(), 0)]);
    assert_eq!(list("*.txt").await, [("one.txt".to_owned(), 10)]);

    let stat = async |path: &str| {
        let request = pb::StatFileRequest {
            r#ref: id.to_owned(),
            path: path.to_owned(),
            ..pb::StatFileRequest::default()
        };
        build.bridge().stat_file(build.of(request)).await.map(|answer| answer.into_inner().stat.unwrap())
    };
    let dir = stat("/d").await.unwrap();
    assert_eq!(dir.mode & 0o777, 0o750);
    assert!(dir.mode & (1 << 31) != 0, "modes are Go's");
    assert_eq!(stat("/d/one.txt").await.unwrap().size, 10);
    assert!(stat("/nothing").await.is_err());
    build.finish(pb::ReturnRequest { result: Some(pb::Result::default()), error: None }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_are_lazy_until_evaluated() {
    let sandbox = Sandbox::new();
    let build = Driven::start(&sandbox, "lazy").await;
    let broken = scratch().file(rm("/not/there"));
    // Nobody has asked for it yet.
    let reference = build.solve(&broken).await;
    let evaluate = pb::EvaluateRequest { r#ref: reference.id };
    let error = build.bridge().evaluate(build.of(evaluate)).await.unwrap_err();
    assert!(error.message().contains("not/there"), "{error}");
    assert!(!error.details().is_empty(), "the step is told");
    // With `evaluate` the answer waits.
    let request = pb::SolveRequest {
        definition: Some(broken.marshal(&MarshalOptions::new()).unwrap()),
        evaluate: true,
        ..pb::SolveRequest::default()
    };
    assert!(build.bridge().solve(build.of(request)).await.is_err());
    let good = build.solve(&tree()).await;
    let evaluate = pb::EvaluateRequest { r#ref: good.id };
    build.bridge().evaluate(build.of(evaluate)).await.unwrap();
    // What the driver returns as error is what the solve fails with.
    let status = pb::ReturnRequest {
        error: Some(buildkit_util_grpcerrors::rpc::Status {
            code: Code::FailedPrecondition as i32,
            message: "the driver does not like it".into(),
            details: vec![],
        }),
        result: None,
    };
    let error = build.finish(status).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("the driver does not like it"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_reach_everybody_who_watches() {
    let sandbox = Sandbox::new();
    let build = Driven::start(&sandbox, "warns").await;
    let reference = build.solve(&tree()).await;
    let definition = reference.def.clone().unwrap();
    let digest = definition.metadata[0].key.clone().unwrap();
    let warning = pb::WarnRequest {
        digest,
        level: 1,
        short: "a short warning".into(),
        detail: vec!["all of it".into()],
        url: "https://example.com/why".into(),
        ..pb::WarnRequest::default()
    };
    build.bridge().warn(build.of(warning.clone())).await.unwrap();
    let wrong = pb::WarnRequest { digest: "no digest".into(), ..warning };
    assert!(build.bridge().warn(build.of(wrong)).await.is_err());
    let mut control = ControlClient::new(build.channel.clone());
    let mut status = control.status(StatusRequest { r#ref: build.id.clone() }).await.unwrap().into_inner();
    build.finish(pb::ReturnRequest { result: Some(pb::Result::default()), error: None }).await.unwrap();
    let mut seen = Vec::new();
    while let Some(StatusResponse { warnings, .. }) = status.message().await.unwrap() {
        seen.extend(warnings.into_iter().map(|warning| (warning.short, warning.url)));
    }
    assert_eq!(seen, [("a short warning".into(), "https://example.com/why".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_refs_are_returned_and_checked() {
    let sandbox = Sandbox::new();
    let mapping = r#"{"Platforms":[
        {"ID":"linux/amd64","Platform":{"architecture":"amd64","os":"linux"}},
        {"ID":"linux/arm64","Platform":{"architecture":"arm64","os":"linux"}}]}"#;
    let refs = |build: &Driven, ids: [String; 2], mapped: bool| {
        let [one, two] = ids.map(|id| pb::Ref { id, def: None });
        let refs = BTreeMap::from([("linux/amd64".to_owned(), one), ("linux/arm64".to_owned(), two)]);
        build.of(pb::ReturnRequest {
            result: Some(pb::Result {
                result: Some(pb::result::Result::Refs(pb::RefMap { refs: refs.into_iter().collect() })),
                metadata: mapped.then(|| ("refs.platforms".to_owned(), mapping.into())).into_iter().collect(),
                ..pb::Result::default()
            }),
            error: None,
        })
    };
    let build = Driven::start(&sandbox, "several").await;
    let one = build.solve(&tree()).await.id;
    let two = build.solve(&scratch().file(mkfile("/two", 0o644, "2"))).await.id;
    assert_ne!(one, two);
    assert!(build.bridge().r#return(refs(&build, [one.clone(), "nobody's".into()], true)).await.is_err());
    build.bridge().r#return(refs(&build, [one.clone(), two], true)).await.unwrap();
    let again = build.bridge().r#return(refs(&build, [one.clone(), one.clone()], true)).await;
    assert!(again.is_err(), "a build returns once");
    build.solve.await.unwrap().unwrap();
    // Nobody could tell which tree is for which platform.
    let build = Driven::start(&sandbox, "unmapped").await;
    let id = build.solve(&tree()).await.id;
    build.bridge().r#return(refs(&build, [id.clone(), id], false)).await.unwrap();
    let error = build.solve.await.unwrap().unwrap_err();
    assert!(error.message().contains("without platforms mapping"), "{error}");
    // It has ended: its refs are nobody's, and other builds never had them.
    let other = Driven::start(&sandbox, "other").await;
    other.solve(&tree()).await;
    assert!(other.read(&one, "/d/one.txt", None).await.is_err());
    other.finish(pb::ReturnRequest { result: Some(pb::Result::default()), error: None }).await.unwrap();
}
