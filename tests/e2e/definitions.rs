//! Graphs that no builder makes, sent as any client could.

use std::time::Duration;

use buildkit_api_services_control::{SolveRequest, control_client::ControlClient};
use buildkit_solver_pb::{
    BuildInput, BuildOp, ChownOpt, Definition, DiffOp, ExecOp, FileAction, FileActionCopy, FileActionMkDir,
    FileActionMkFile, FileActionRm, FileOp, Input, LowerDiffInput, MergeInput, MergeOp, Meta, Mount,
    NamedUserOpt, Op, PassthroughOp, SourceOp, UpperDiffInput, UserOpt, build_op, file_action::Action, op,
    user_opt,
};
use bytes::Bytes;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::sandbox::{Sandbox, base, shell};

const ODD: [i64; 7] = [i64::MIN, i32::MIN as i64, -2, 1, 2, i32::MAX as i64, i64::MAX];

/// Ops in the order of a definition.
#[derive(Default)]
struct Graph(Vec<Bytes>);

impl Graph {
    /// Adds an op and gives its digest.
    fn add(&mut self, op: &Op) -> String {
        let digest = op.digest().to_string();
        self.0.push(op.encode_deterministic().into());
        digest
    }

    /// Ends the graph with output 0 of `digest`.
    fn finish(mut self, digest: &str) -> Definition {
        self.add(&Op { inputs: vec![input(digest, 0)], ..Op::default() });
        Definition { def: self.0, ..Definition::default() }
    }
}

fn input(digest: &str, index: i64) -> Input {
    Input { digest: digest.to_owned(), index }
}

fn of(inputs: Vec<Input>, op: op::Op) -> Op {
    Op { inputs, op: Some(op), ..Op::default() }
}

fn file(inputs: Vec<Input>, actions: Vec<FileAction>) -> Op {
    of(inputs, op::Op::File(FileOp { actions }))
}

fn mkdir(input: i64, output: i64) -> FileAction {
    let action = Action::Mkdir(FileActionMkDir {
        path: "/d".into(),
        mode: 0o755,
        timestamp: -1,
        ..Default::default()
    });
    FileAction { input, secondary_input: -1, output, action: Some(action) }
}

/// A definition whose last op is `op` with one good input.
fn with_input(op: impl FnOnce(String) -> Op) -> Definition {
    let mut graph = Graph::default();
    let good = graph.add(&file(vec![], vec![mkdir(-1, 0)]));
    let last = graph.add(&op(good));
    graph.finish(&last)
}

fn exec(mounts: Vec<Mount>) -> ExecOp {
    let meta = Meta { args: vec!["/bin/true".into()], cwd: "/".into(), ..Meta::default() };
    ExecOp { meta: Some(meta), mounts, ..ExecOp::default() }
}

fn root_mount(input: i64, output: i64) -> Mount {
    Mount { input, output, dest: "/".into(), ..Mount::default() }
}

/// Payloads and edge lists that contradict each other (A1-15, A1-21 to A1-23), by name.
fn contradictions() -> Vec<(String, Definition)> {
    let mut all: Vec<(String, Definition)> = Vec::new();
    let mut add = |name: String, definition: Definition| all.push((name, definition));
    for odd in ODD {
        add(
            format!("exec mount input {odd}"),
            with_input(|good| of(vec![input(&good, 0)], op::Op::Exec(exec(vec![root_mount(odd, 0)])))),
        );
        add(format!("file input {odd}"), with_input(|good| file(vec![input(&good, 0)], vec![mkdir(odd, 0)])));
        add(
            format!("file secondary input {odd}"),
            with_input(|good| {
                let action = Action::Copy(FileActionCopy {
                    src: "/".into(),
                    dest: "/".into(),
                    mode: -1,
                    timestamp: -1,
                    ..Default::default()
                });
                file(
                    vec![input(&good, 0)],
                    vec![FileAction { input: 0, secondary_input: odd, output: 0, action: Some(action) }],
                )
            }),
        );
        add(
            format!("merge input {odd}"),
            with_input(|good| {
                let inputs = vec![MergeInput { input: 0 }, MergeInput { input: odd }];
                of(vec![input(&good, 0)], op::Op::Merge(MergeOp { inputs }))
            }),
        );
        add(
            format!("diff input {odd}"),
            with_input(|good| {
                let op = DiffOp {
                    lower: Some(LowerDiffInput { input: 0 }),
                    upper: Some(UpperDiffInput { input: odd }),
                };
                of(vec![input(&good, 0)], op::Op::Diff(op))
            }),
        );
        add(
            format!("build input {odd}"),
            with_input(|good| {
                let entry = build_op::InputsEntry {
                    key: Some("buildkit.llb.definition".into()),
                    value: Some(BuildInput { input: odd }),
                };
                of(
                    vec![input(&good, 0)],
                    op::Op::Build(BuildOp { builder: -1, inputs: vec![entry], ..Default::default() }),
                )
            }),
        );
        add(
            format!("owner by name from input {odd}"),
            with_input(|good| {
                let user = UserOpt {
                    user: Some(user_opt::User::ByName(NamedUserOpt { name: "x".into(), input: odd })),
                };
                let owner = ChownOpt { user: Some(user), group: None };
                let action = Action::Mkdir(FileActionMkDir {
                    path: "/d".into(),
                    mode: 0o755,
                    owner: Some(owner),
                    timestamp: -1,
                    ..Default::default()
                });
                file(
                    vec![input(&good, 0)],
                    vec![FileAction { input: 0, secondary_input: -1, output: 0, action: Some(action) }],
                )
            }),
        );
        add(
            format!("index {odd} of an input"),
            with_input(|good| file(vec![input(&good, odd)], vec![mkdir(0, 0)])),
        );
    }
    add(
        "diff of nothing".into(),
        with_input(|good| of(vec![input(&good, 0)], op::Op::Diff(DiffOp::default()))),
    );
    add(
        "merge of nothing".into(),
        with_input(|good| of(vec![input(&good, 0)], op::Op::Merge(MergeOp::default()))),
    );
    add(
        "more inputs than used".into(),
        with_input(|good| {
            let inputs = vec![MergeInput { input: 0 }, MergeInput { input: 1 }];
            of(vec![input(&good, 0), input(&good, 0), input(&good, 0)], op::Op::Merge(MergeOp { inputs }))
        }),
    );
    add(
        "a file action of nothing".into(),
        with_input(|good| {
            file(
                vec![input(&good, 0)],
                vec![FileAction { input: 0, secondary_input: -1, output: 0, action: None }],
            )
        }),
    );
    add("file actions: none".into(), with_input(|good| file(vec![input(&good, 0)], vec![])));
    add(
        "file actions: one output twice".into(),
        with_input(|good| file(vec![input(&good, 0)], vec![mkdir(0, 0), mkdir(0, 0)])),
    );
    add(
        "file actions: an action that is its own input".into(),
        with_input(|good| file(vec![input(&good, 0)], vec![mkdir(1, 0)])),
    );
    add(
        "file actions: an output with a gap".into(),
        with_input(|good| file(vec![input(&good, 0)], vec![mkdir(0, 5)])),
    );
    add(
        "exec without meta".into(),
        with_input(|good| {
            of(vec![input(&good, 0)], op::Op::Exec(ExecOp { meta: None, ..exec(vec![root_mount(0, 0)]) }))
        }),
    );
    add(
        "exec without args".into(),
        with_input(|good| {
            let meta = Some(Meta { cwd: "/".into(), ..Meta::default() });
            of(vec![input(&good, 0)], op::Op::Exec(ExecOp { meta, ..exec(vec![root_mount(0, 0)]) }))
        }),
    );
    add(
        "exec without a root".into(),
        with_input(|good| of(vec![input(&good, 0)], op::Op::Exec(exec(vec![])))),
    );
    for mode in [2, 99, -1, i32::MAX] {
        if mode != 2 {
            add(
                format!("A1-12: network mode {mode}"),
                with_input(|good| {
                    of(
                        vec![input(&good, 0)],
                        op::Op::Exec(ExecOp { network: mode, ..exec(vec![root_mount(0, 0)]) }),
                    )
                }),
            );
        }
        add(
            format!("A1-12: security mode {mode}"),
            with_input(|good| {
                of(
                    vec![input(&good, 0)],
                    op::Op::Exec(ExecOp { security: mode, ..exec(vec![root_mount(0, 0)]) }),
                )
            }),
        );
        add(
            format!("mount type {mode}"),
            with_input(|good| {
                let odd = Mount {
                    input: -1,
                    output: -1,
                    dest: "/x".into(),
                    mount_type: mode.saturating_add(50),
                    ..Mount::default()
                };
                of(vec![input(&good, 0)], op::Op::Exec(exec(vec![root_mount(0, 0), odd])))
            }),
        );
    }
    add("passthrough without inputs".into(), {
        let mut graph = Graph::default();
        let last =
            graph.add(&of(vec![], op::Op::Passthrough(PassthroughOp { id: "x".into(), outputs: vec![] })));
        graph.finish(&last)
    });
    add("an op of no kind".into(), with_input(|good| Op { inputs: vec![input(&good, 0)], ..Op::default() }));
    add("an unknown source".into(), {
        let mut graph = Graph::default();
        let last =
            graph.add(&of(vec![], op::Op::Source(SourceOp { identifier: "nope://x".into(), attrs: vec![] })));
        graph.finish(&last)
    });
    add("an input that is not there".into(), {
        let mut graph = Graph::default();
        let gone = format!("sha256:{}", "0".repeat(64));
        let last = graph.add(&file(vec![input(&gone, 0)], vec![mkdir(0, 0)]));
        graph.finish(&last)
    });
    for digest in ["", "sha256:", "sha256:../../x", "md5:00", "nonsense"] {
        add(format!("the digest {digest:?}"), {
            let mut graph = Graph::default();
            let last = graph.add(&file(vec![input(digest, 0)], vec![mkdir(0, 0)]));
            graph.finish(&last)
        });
    }
    add(
        "bytes that are no op".into(),
        Definition { def: vec![Bytes::from_static(&[0xff; 40])], ..Definition::default() },
    );
    add(
        "a million open groups".into(),
        Definition { def: vec![vec![0x0b; 1_000_000].into()], ..Definition::default() },
    );
    all
}

async fn client(sandbox: &Sandbox) -> ControlClient<Channel> {
    let channel = Endpoint::from_shared(format!("unix://{}", sandbox.daemon.socket().display()))
        .expect("an address")
        .http2_max_header_list_size(16 << 20)
        .connect()
        .await
        .expect("a connection");
    ControlClient::new(channel).max_encoding_message_size(64 << 20)
}

async fn solve(
    client: &mut ControlClient<Channel>,
    name: &str,
    definition: Definition,
) -> Result<(), tonic::Status> {
    let request = SolveRequest {
        r#ref: format!("test-{}", name.len()),
        definition: Some(definition),
        ..Default::default()
    };
    tokio::time::timeout(Duration::from_secs(60), client.solve(request))
        .await
        .unwrap_or_else(|_| panic!("{name}: no answer"))
        .map(drop)
}

/// Runs definitions that nobody can build; gives those that were not refused as the client's fault.
#[tokio::test(flavor = "multi_thread")]
async fn a1_15_a1_23_contradictory_definitions_are_refused() {
    let mut sandbox = Sandbox::new();
    let id = sandbox.daemon.id();
    let mut client = client(&sandbox).await;
    let mut wrong = Vec::new();
    for (name, definition) in contradictions() {
        match solve(&mut client, &name, definition).await {
            Err(status) if status.code() == Code::InvalidArgument && !status.message().is_empty() => {}
            // Another daemon may know it; clients know this text.
            Err(status)
                if name == "an unknown source" && status.message().contains("unknown scheme nope") => {}
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
    assert_eq!(sandbox.daemon.id(), id);
    drop(client);
    tokio::task::block_in_place(|| sandbox.assert_serves("after nonsense"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_04_huge_definitions_end_in_time() {
    let mut sandbox = Sandbox::new();
    let before = sandbox.daemon.census();
    let mut client = client(&sandbox).await;
    // A chain over a step that fails: deep recursion would end the daemon, and no step runs.
    let mut graph = Graph::default();
    let rm = FileActionRm { path: "/gone".into(), ..Default::default() };
    let action = FileAction { input: -1, secondary_input: -1, output: 0, action: Some(Action::Rm(rm)) };
    let first = graph.add(&file(vec![], vec![action]));
    let mut last = first.clone();
    for _ in 0..50_000 {
        last = graph.add(&file(vec![input(&last, 0)], vec![mkdir(0, 0)]));
    }
    assert!(solve(&mut client, "deep", graph.finish(&last)).await.is_err());
    // One op with more inputs than any tree has layers.
    let mut graph = Graph::default();
    let rm = FileActionRm { path: "/gone".into(), ..Default::default() };
    let action = FileAction { input: -1, secondary_input: -1, output: 0, action: Some(Action::Rm(rm)) };
    let first = graph.add(&file(vec![], vec![action]));
    let inputs = (0..100_000).map(|input| MergeInput { input }).collect();
    let last = graph.add(&of(vec![input(&first, 0); 100_000], op::Op::Merge(MergeOp { inputs })));
    assert!(solve(&mut client, "wide", graph.finish(&last)).await.is_err());
    // A diamond of 2^60 paths over 61 ops.
    let mut graph = Graph::default();
    let mut last = graph.add(&file(vec![], vec![mkdir(-1, 0)]));
    for _ in 0..60 {
        last = graph.add(&of(
            vec![input(&last, 0), input(&last, 0)],
            op::Op::Passthrough(PassthroughOp { id: "x".into(), outputs: vec![] }),
        ));
    }
    let _ = solve(&mut client, "diamond", graph.finish(&last)).await;
    drop(client);
    tokio::task::block_in_place(|| {
        sandbox.daemon.assert_nothing_left(&before);
        sandbox.assert_serves("after bombs");
    });
}

#[test]
fn a1_16_removing_cannot_leave_the_tree() {
    let mut sandbox = Sandbox::new();
    let canary = sandbox.daemon.dir().join("tmp/canary");
    fs_err::write(&canary, "there").unwrap();
    for path in ["..", "/..", "a/../..", ".", "/", "*", "../*", "/../tmp/*"] {
        let mut graph = Graph::default();
        let rm = FileActionRm { path: path.into(), allow_not_found: true, allow_wildcard: true };
        let make = Action::Mkfile(FileActionMkFile {
            path: "/f".into(),
            mode: 0o644,
            timestamp: -1,
            ..Default::default()
        });
        let last = graph.add(&file(
            vec![],
            vec![
                FileAction { input: -1, secondary_input: -1, output: -1, action: Some(make) },
                FileAction { input: 0, secondary_input: -1, output: 0, action: Some(Action::Rm(rm)) },
            ],
        ));
        // It may fail or empty the tree; nothing outside goes.
        let _ = sandbox.build_definition(graph.finish(&last).encode_deterministic()).run();
        assert_eq!(fs_err::read_to_string(&canary).unwrap(), "there", "{path}");
    }
    sandbox.assert_serves("after removals");
}

#[test]
fn a2_21_ids_of_caches_are_no_paths() {
    let mut sandbox = Sandbox::new();
    let canary = sandbox.path("canary");
    fs_err::create_dir(&canary).unwrap();
    for id in ["../../x", "/etc", &canary.display().to_string(), "a/../../b", "\n", ".."] {
        let mount = buildkit_client_llb::Mount::cache(id, buildkit_client_llb::CacheSharing::Shared);
        let run = base().run().args(["/bin/sh", "-c", "echo x > /c/escaped"]).mount("/c", mount);
        let _ = sandbox.build(&run.done().root()).run();
        assert!(!canary.join("escaped").exists() && !std::path::Path::new("/etc/escaped").exists(), "{id}");
    }
    sandbox.assert_serves("after ids");
    let _ = shell(&base(), "true");
}
