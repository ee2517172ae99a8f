//! Graphs that no builder makes, sent as any client could.

use buildkit_solver_pb::{
    BuildInput, BuildOp, ChownOpt, Definition, DiffOp, ExecOp, FileAction, FileActionCopy, FileActionMkDir,
    FileActionMkFile, FileActionRm, LowerDiffInput, MergeInput, MergeOp, Meta, Mount, NamedUserOpt, Op,
    PassthroughOp, SourceOp, UpperDiffInput, UserOpt, build_op, file_action::Action, op, user_opt,
};
use bytes::Bytes;
use tonic::Code;

use crate::client::{connect, solve};
use crate::graph::{Graph, exec, file, input, mkdir, of, root_mount, with_input};
use crate::sandbox::{Sandbox, base, shell};

const ODD: [i64; 7] = [i64::MIN, i32::MIN as i64, -2, 1, 2, i32::MAX as i64, i64::MAX];

/// Payloads and edge lists that contradict each other, by name.
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

/// Runs definitions that nobody can build; gives those that were not refused as the client's fault.
#[tokio::test(flavor = "multi_thread")]
async fn a1_12_a1_15_a1_21_a1_22_a1_23_contradictory_definitions_are_refused() {
    let mut sandbox = Sandbox::new();
    let id = sandbox.daemon.id();
    let channel = connect(&sandbox).await;
    let mut wrong = Vec::new();
    for (name, definition) in contradictions() {
        match solve(&channel, &name, definition).await {
            Err(status) if status.code() == Code::InvalidArgument && !status.message().is_empty() => {}
            // Another daemon may know it; clients know this text.
            Err(status)
                if name == "an unknown source" && status.message().contains("unknown scheme nope") => {}
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
    assert_eq!(sandbox.daemon.id(), id);
    drop(channel);
    tokio::task::block_in_place(|| sandbox.assert_serves("after nonsense"));
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

/// Results without a tree: what a diff of nothing gives, and what is made of it.
#[test]
fn a1_21_a1_22_empty_results_are_empty_trees() {
    let mut sandbox = Sandbox::new();
    let nothing = || {
        let sides = (Some(LowerDiffInput { input: -1 }), Some(UpperDiffInput { input: -1 }));
        of(vec![], op::Op::Diff(DiffOp { lower: sides.0, upper: sides.1 }))
    };
    // The tested op on a merge of only empty trees; what its result holds, or that it fails.
    let copy_of = |src: &str| {
        let copy = FileActionCopy {
            src: src.into(),
            dest: "/".into(),
            mode: -1,
            timestamp: -1,
            dir_copy_contents: true,
            ..Default::default()
        };
        FileAction { input: -1, secondary_input: 0, output: 0, action: Some(Action::Copy(copy)) }
    };
    let merge = |inputs: Vec<_>| {
        let list = (0..).take(inputs.len()).map(|input| MergeInput { input }).collect();
        of(inputs, op::Op::Merge(MergeOp { inputs: list }))
    };
    let diff = |inputs: Vec<_>, lower, upper| {
        let op = DiffOp {
            lower: Some(LowerDiffInput { input: lower }),
            upper: Some(UpperDiffInput { input: upper }),
        };
        of(inputs, op::Op::Diff(op))
    };
    let owner = UserOpt { user: Some(user_opt::User::ByName(NamedUserOpt { name: "u".into(), input: 0 })) };
    let owned = Action::Mkdir(FileActionMkDir {
        path: "/d".into(),
        mode: 0o755,
        timestamp: -1,
        owner: Some(ChownOpt { user: Some(owner), group: None }),
        ..Default::default()
    });
    let owned = FileAction { input: 0, secondary_input: -1, output: 0, action: Some(owned) };
    let remove = FileActionRm { path: "/x".into(), ..Default::default() };
    let remove = FileAction { input: 0, secondary_input: -1, output: 0, action: Some(Action::Rm(remove)) };
    let passthrough =
        |inputs| of(inputs, op::Op::Passthrough(PassthroughOp { id: "p".into(), outputs: vec![0] }));
    let run = |inputs: Vec<_>, mounts| of(inputs, op::Op::Exec(exec(mounts)));
    let at = |dest: &str, input, output, readonly| Mount {
        dest: dest.into(),
        input,
        output,
        readonly,
        ..Mount::default()
    };
    type Make<'a> = Box<dyn Fn(buildkit_solver_pb::Input, buildkit_solver_pb::Input) -> Op + 'a>;
    let cases: Vec<(&str, Make<'_>, Option<&[&str]>)> = vec![
        ("itself", Box::new(|empty, _| passthrough(vec![empty])), Some(&[])),
        ("merge", Box::new(|empty, _| merge(vec![empty.clone(), empty])), Some(&[])),
        ("diff", Box::new(|empty, _| diff(vec![empty.clone(), empty], 0, 1)), Some(&[])),
        ("diff to scratch", Box::new(|empty, _| diff(vec![empty], 0, -1)), Some(&[])),
        ("directory", Box::new(|empty, _| file(vec![empty], vec![mkdir(0, 0)])), Some(&["d"])),
        ("copy of all", Box::new(|empty, _| file(vec![empty], vec![copy_of("/")])), Some(&[])),
        ("copy of a file", Box::new(|empty, _| file(vec![empty], vec![copy_of("/x")])), None),
        ("removal", Box::new(|empty, _| file(vec![empty], vec![remove.clone()])), None),
        // No list of users, nobody of this name: as in an image without one.
        ("owner", Box::new(|empty, _| file(vec![empty], vec![owned.clone()])), Some(&["d"])),
        ("root", Box::new(|empty, _| run(vec![empty], vec![root_mount(0, 0)])), None),
        (
            "mount",
            Box::new(|empty, root| run(vec![root, empty], vec![root_mount(0, -1), at("/m", 1, 0, false)])),
            Some(&[]),
        ),
        (
            "read-only mount",
            Box::new(|empty, root| run(vec![root, empty], vec![root_mount(0, -1), at("/m", 1, 0, true)])),
            Some(&[]),
        ),
    ];
    for (name, make, expect) in cases {
        let mut graph = Graph::default();
        let (first, second) =
            (graph.add(&nothing()), graph.add(&passthrough(vec![input(&nothing().digest().to_string(), 0)])));
        let empty = graph.add(&merge(vec![input(&first, 0), input(&second, 0)]));
        let local = SourceOp { identifier: "local://rootfs".into(), attrs: vec![] };
        let local = graph.add(&of(vec![], op::Op::Source(local)));
        let last = graph.add(&make(input(&empty, 0), input(&local, 0)));
        let out = sandbox.path("out");
        let _ = fs_err::remove_dir_all(&out);
        let build = sandbox.build_definition(graph.finish(&last).encode_deterministic());
        let output = build.args(crate::sandbox::to_directory(&out)).run();
        match expect {
            None => drop(output.assert_fails()),
            Some(names) => {
                let text = output.text();
                assert!(output.status.success(), "{name}: {text}");
                let found = fs_err::read_dir(&out).into_iter().flatten().flatten();
                let found: Vec<_> =
                    found.map(|entry| entry.file_name().into_string().expect("a name")).collect();
                assert_eq!(found, names, "{name}");
            }
        }
    }
    assert!(!sandbox.daemon.log().contains("panicked"), "{}", sandbox.daemon.log());
    sandbox.assert_serves("after empty trees");
}

/// Devices are given to no container: a step that must have one does not run without.
#[test]
fn steps_do_not_run_without_a_required_device() {
    let sandbox = Sandbox::new();
    let build = |optional| {
        let device = buildkit_solver_pb::CdiDevice { name: "vendor.com/gpu=all".into(), optional };
        let mut graph = Graph::default();
        let local = SourceOp { identifier: "local://rootfs".into(), attrs: vec![] };
        let local = graph.add(&of(vec![], op::Op::Source(local)));
        let run = ExecOp { cdi_devices: vec![device], ..exec(vec![root_mount(0, 0)]) };
        let last = graph.add(&of(vec![input(&local, 0)], op::Op::Exec(run)));
        sandbox.build_definition(graph.finish(&last).encode_deterministic()).run()
    };
    let text = build(false).assert_fails().text();
    assert!(text.contains("required device \"vendor.com/gpu=all\" is not registered"), "{text}");
    build(true).assert_ok();
}
