//! Sessions of clients that answer what they want.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buildkit_api_services_control::{Exporter, SolveRequest};
use buildkit_session::SessionServer;
use buildkit_session_filesync::FsSyncProvider;
use buildkit_session_pb::RawCodec;
use buildkit_solver_pb as pb;
use buildkit_util_appcontext::{TaskGuard, spawn};
use buildkit_util_fsutil::{DirFs, mode};
use buildkit_util_fsutil_types::{Packet, Stat, packet::PacketType};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Request, Response};
use prost::Message as _;
use tonic::body::Body;
use tonic::server::{NamedService, StreamingService};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::client::{build_id, connect, solve_request};
use crate::graph::{Graph, exec, file, input, mkdir, of, root_mount};
use crate::sandbox::Sandbox;

/// A session that lasts as long as the value.
pub struct Session {
    pub id: String,
    _serving: TaskGuard<()>,
}

/// Opens a session.
async fn open(channel: &Channel, server: SessionServer) -> Session {
    let id = server.id().to_owned();
    let channel = channel.clone();
    let serving = spawn(async move {
        let _ = buildkit_session_grpchijack::open(channel, &server).await;
    });
    Session { id, _serving: serving }
}

/// A session of good will that shares a directory.
pub async fn share(channel: &Channel, name: &str, dir: &Path) -> Session {
    let fs: Arc<dyn buildkit_util_fsutil::FileSystem> = Arc::new(DirFs::open(dir).expect("a directory"));
    let mut server = SessionServer::new("test").await;
    server.allow(FsSyncProvider::new([(name.to_owned(), fs)].into()).service(), FsSyncProvider::METHODS);
    open(channel, server).await
}

/// What each method of a session answers, whatever it is asked.
type Answers = Arc<BTreeMap<&'static str, Vec<Bytes>>>;

struct Answer(Vec<Bytes>);

impl StreamingService<Bytes> for Answer {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let messages = std::mem::take(&mut self.0);
        // What is asked is read, so that nothing waits for that.
        let asked = spawn(async move {
            let mut asked = request.into_inner();
            while let Ok(Some(_)) = asked.message().await {}
        });
        let answer = futures::stream::iter(messages).map(move |message| {
            let _asked = &asked;
            Ok(message)
        });
        Box::pin(async move { Ok(tonic::Response::new(answer.boxed())) })
    }
}

macro_rules! services {
    ($($name:ident $full:literal $methods:expr;)*) => {
        $(
            #[derive(Clone)]
            struct $name(Answers);

            impl NamedService for $name {
                const NAME: &'static str = $full;
            }

            impl tower::Service<Request<Body>> for $name {
                type Response = Response<Body>;
                type Error = Infallible;
                type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

                fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                    Poll::Ready(Ok(()))
                }

                fn call(&mut self, request: Request<Body>) -> Self::Future {
                    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
                    let answer = Answer(self.0.get(method).cloned().unwrap_or_default());
                    Box::pin(async move {
                        Ok(tonic::server::Grpc::new(RawCodec).streaming(answer, request).await)
                    })
                }
            }
        )*

        /// A session all of whose methods give these answers.
        async fn hostile(channel: &Channel, answers: Answers) -> Session {
            let mut server = SessionServer::new("hostile").await;
            $(server.allow($name(answers.clone()), &$methods);)*
            open(channel, server).await
        }
    };
}

services! {
    FileSync "moby.filesync.v1.FileSync" ["DiffCopy", "TarStream"];
    FileSend "moby.filesync.v1.FileSend" ["DiffCopy"];
    Auth "moby.filesync.v1.Auth" ["Credentials", "FetchToken", "GetTokenAuthority", "VerifyTokenAuthority"];
    Secrets "moby.buildkit.secrets.v1.Secrets" ["GetSecret"];
    Ssh "moby.sshforward.v1.SSH" ["CheckAgent", "ForwardAgent"];
}

fn local_source(session: &Session) -> (Graph, String) {
    let mut graph = Graph::default();
    let source = graph.add(&of(
        vec![],
        pb::op::Op::Source(pb::SourceOp {
            identifier: "local://context".to_owned(),
            attrs: pb::map::from_map([("local.session".to_owned(), session.id.clone())]),
        }),
    ));
    (graph, source)
}

fn request(session: &Session, definition: pb::Definition, exporter: Option<&str>) -> SolveRequest {
    let exporters = exporter.map(|kind| Exporter { r#type: kind.to_owned(), ..Exporter::default() });
    SolveRequest {
        r#ref: build_id(),
        session: session.id.clone(),
        definition: Some(definition),
        exporters: exporters.into_iter().collect(),
        ..SolveRequest::default()
    }
}

fn stat(path: &str, mode: u32, linkname: &str) -> Packet {
    let stat = Stat { path: path.to_owned(), mode, linkname: linkname.to_owned(), ..Stat::default() };
    Packet { r#type: PacketType::PacketStat as i32, stat: Some(stat), ..Packet::default() }
}

fn of_type(kind: PacketType) -> Packet {
    Packet { r#type: kind as i32, ..Packet::default() }
}

/// Transfers that try to write elsewhere, by name.
fn hostile_transfers(canary: &str) -> Vec<(String, Vec<Packet>)> {
    let dir = |path: &str| stat(path, mode::DIR | 0o755, "");
    let file = |path: &str| stat(path, 0o644, "");
    let link = |path: &str, target: &str| stat(path, mode::SYMLINK | 0o777, target);
    let last = || of_type(PacketType::PacketStat);
    let data = |id: u32| Packet { id, data: b"escaped"[..].into(), ..of_type(PacketType::PacketData) };
    let end = |id: u32| Packet { id, ..of_type(PacketType::PacketData) };
    let fin = || of_type(PacketType::PacketFin);
    let whole = |entries: Vec<Packet>| {
        let id = u32::try_from(entries.len() - 1).expect("few");
        [entries, vec![last(), data(id), end(id), fin()]].concat()
    };
    let long = "a".repeat(5_000);
    let mut all: Vec<(String, Vec<Packet>)> = Vec::new();
    for name in [
        "..",
        ".",
        "",
        "a//escaped",
        "a/./escaped",
        "a/../escaped",
        "/escaped",
        "escaped/",
        "esc\0aped",
        &long,
    ] {
        all.push((format!("{name:.20?}"), whole(vec![dir("a"), file(name)])));
        all.push((
            format!("directory {name:.20?}"),
            whole(vec![dir(name), file(&format!("{name}/escaped"))]),
        ));
    }
    for up in 1..8 {
        all.push((format!("{up} up"), whole(vec![file(&format!("{}escaped", "../".repeat(up)))])));
    }
    all.push(("unsorted".into(), whole(vec![file("b"), file("a")])));
    all.push(("twice".into(), whole(vec![file("a"), file("a")])));
    all.push(("a directory after what is in it".into(), whole(vec![file("a/b"), dir("a")])));
    all.push((
        "10,000 deep".into(),
        whole((1..10_000).map(|depth| dir(&vec!["d"; depth].join("/"))).collect()),
    ));
    all.push(("10,000 deep at once".into(), whole(vec![dir(&vec!["d"; 10_000].join("/"))])));
    all.push(("below a link".into(), whole(vec![link("a", canary), file("a/escaped")])));
    all.push(("a hard link out".into(), whole(vec![stat("a", 0o644, &format!("../..{canary}/there"))])));
    all.push(("no packets".into(), vec![]));
    all.push(("a request".into(), vec![of_type(PacketType::PacketReq)]));
    all.push(("data of nothing".into(), vec![data(7)]));
    all.push(("an early end".into(), vec![file("a"), last(), fin()]));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_17_hostile_clients_write_nowhere_else() {
    let mut sandbox = Sandbox::new();
    let canary = sandbox.path("canary");
    fs_err::create_dir(&canary).expect("a directory");
    fs_err::write(canary.join("there"), "there").expect("a file");
    let channel = connect(&sandbox).await;
    let mut taken = Vec::new();
    for (name, packets) in hostile_transfers(&canary.display().to_string()) {
        let messages = packets.iter().map(|packet| packet.encode_to_vec().into()).collect();
        let session = hostile(&channel, Arc::new([("DiffCopy", messages)].into())).await;
        let (mut graph, source) = local_source(&session);
        let copy = pb::FileActionCopy {
            src: "/".into(),
            dest: "/".into(),
            mode: -1,
            timestamp: -1,
            dir_copy_contents: true,
            ..Default::default()
        };
        let action = pb::FileAction {
            input: -1,
            secondary_input: 0,
            output: 0,
            action: Some(pb::file_action::Action::Copy(copy)),
        };
        let copied = graph.add(&file(vec![input(&source, 0)], vec![action]));
        match solve_request(&channel, request(&session, graph.finish(&copied), None)).await {
            Err(status) if status.message().is_empty() || status.message().contains("panic") => {
                taken.push(format!("{name}: {status:?}"));
            }
            Err(_) => {}
            Ok(_) => taken.push(name),
        }
    }
    assert_eq!(taken, [""; 0]);
    let found = buildkit_util_testutil::Run::new("find")
        .arg(sandbox.daemon.dir())
        .arg(&canary)
        .args(["/tmp", "/", "-maxdepth", "1"])
        .args(["-name", "escaped"])
        .run();
    assert_eq!(found.stdout, "");
    assert_eq!(fs_err::read_to_string(canary.join("there")).expect("a file"), "there");
    assert!(!sandbox.daemon.log().contains("panicked"), "{}", sandbox.daemon.log());
    drop(channel);
    tokio::task::block_in_place(|| sandbox.assert_serves("after hostile clients"));
}

/// A backslash is a byte of names here. It must not become a separator on the way.
#[tokio::test(flavor = "multi_thread")]
async fn a1_17_backslashes_are_no_separators() {
    let sandbox = Sandbox::new();
    let channel = connect(&sandbox).await;
    let names = ["..\\", "..\\..\\escaped", "C:\\escaped", "\\escaped"];
    let dir = sandbox.path("backslashes");
    fs_err::create_dir(&dir).expect("a directory");
    for name in names {
        fs_err::write(dir.join(name), "").expect("a file");
    }
    let session = share(&channel, "context", &dir).await;
    let (mut graph, source) = local_source(&session);
    let last = graph.add(&of(
        vec![input(&source, 0)],
        pb::op::Op::Passthrough(pb::PassthroughOp { id: "x".into(), outputs: vec![0] }),
    ));
    solve_request(&channel, request(&session, graph.finish(&last), None)).await.expect("names like others");
    let found =
        buildkit_util_testutil::Run::new("find").arg(sandbox.daemon.dir()).args(["-name", "*escaped"]).run();
    let inside = format!("{}/", sandbox.daemon.root().display());
    assert_eq!(found.stdout.lines().filter(|line| line.starts_with(&inside)).count(), 3, "{}", found.stdout);
    assert_eq!(found.stdout.lines().count(), 3, "{}", found.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_07_deep_messages_of_sessions_are_refused() {
    let mut sandbox = Sandbox::new();
    let rootfs = sandbox.path("rootfs");
    let channel = connect(&sandbox).await;
    let good = share(&channel, "context", &rootfs).await;
    let deep: [Bytes; 3] = [
        vec![0x0b; 1_000_000].into(),
        [vec![0x0b; 500_000], vec![0x0c; 500_000]].concat().into(),
        [0xfb, 0x7f].repeat(500_000).into(),
    ];
    for deep in deep {
        let methods = [
            "DiffCopy",
            "TarStream",
            "Credentials",
            "FetchToken",
            "GetTokenAuthority",
            "GetSecret",
            "CheckAgent",
            "ForwardAgent",
        ];
        let answers: Answers = Arc::new(methods.map(|method| (method, vec![deep.clone()])).into());
        let session = hostile(&channel, answers).await;
        let mut definitions = Vec::new();
        let (graph, source) = local_source(&session);
        definitions.push(("files", graph.finish(&source), None));
        for exporter in ["local", "tar"] {
            let mut graph = Graph::default();
            let last = graph.add(&file(vec![], vec![mkdir(-1, 0)]));
            definitions.push((exporter, graph.finish(&last), Some(exporter)));
        }
        let special = [
            (
                "secret",
                pb::Mount {
                    mount_type: pb::MountType::Secret.into(),
                    secret_opt: Some(pb::SecretOpt { id: "s".into(), ..Default::default() }),
                    ..pb::Mount::default()
                },
            ),
            (
                "agent",
                pb::Mount {
                    mount_type: pb::MountType::Ssh.into(),
                    ssh_opt: Some(pb::SshOpt { id: "default".into(), ..Default::default() }),
                    ..pb::Mount::default()
                },
            ),
        ];
        for (name, mount) in special {
            let (mut graph, source) = local_source(&good);
            let mount = pb::Mount { dest: "/special".into(), input: -1, output: -1, ..mount };
            let exec = exec(vec![root_mount(0, 0), mount]);
            let last = graph.add(&of(vec![input(&source, 0)], pb::op::Op::Exec(exec)));
            definitions.push((name, graph.finish(&last), None));
        }
        for (name, definition, exporter) in definitions {
            let status = tokio::time::timeout(
                Duration::from_secs(100),
                solve_request(&channel, request(&session, definition, exporter)),
            )
            .await
            .unwrap_or_else(|_| panic!("{name}: no end"))
            .expect_err(name);
            assert!(!status.message().is_empty() && status.code() != Code::Ok, "{name}: {status:?}");
        }
    }
    assert!(!sandbox.daemon.log().contains("panicked"), "{}", sandbox.daemon.log());
    drop((good, channel));
    tokio::task::block_in_place(|| sandbox.assert_serves("after deep messages of sessions"));
}
