//! Small messages that mean much work, and large ones that mean none.

use buildkit_client_llb::{FileActions, copy, local, scratch};
use buildkit_solver_pb as pb;
use pb::file_action::Action;
use pb::{Definition, op};
use rustix::process::Signal;
use tonic::Code;

use crate::client::{connect, solve};
use crate::graph::{Graph, exec, file, input, mkdir, of, root_mount};
use crate::sandbox::{Sandbox, to_directory};

/// Most ops of a definition, and most bytes of one, that the daemon takes.
const MAX_OPS: usize = 500_000;
const MAX_OP_SIZE: usize = 16 << 20;

/// The most resident memory that the daemon has had, in KiB.
fn memory(sandbox: &Sandbox) -> u64 {
    let status = fs_err::read_to_string(format!("/proc/{}/status", sandbox.daemon.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// An op that fails at once, so that nothing above it runs.
fn failing(graph: &mut Graph) -> String {
    let rm = pb::FileActionRm { path: "/gone".into(), ..Default::default() };
    let action = pb::FileAction { input: -1, secondary_input: -1, output: 0, action: Some(Action::Rm(rm)) };
    graph.add(&file(vec![], vec![action]))
}

/// An op above a failing one.
fn above_failing(op: impl FnOnce(pb::Input) -> pb::Op) -> Definition {
    let mut graph = Graph::default();
    let first = failing(&mut graph);
    let last = graph.add(&op(input(&first, 0)));
    graph.finish(&last)
}

fn exec_with(input: pb::Input, meta: pb::Meta) -> pb::Op {
    let meta = pb::Meta { args: vec!["/bin/true".into()], cwd: "/".into(), ..meta };
    of(vec![input], op::Op::Exec(pb::ExecOp { meta: Some(meta), ..exec(vec![root_mount(0, 0)]) }))
}

/// Graphs by name, and the text that they are refused with; those without one reach the op that fails.
fn bombs() -> Vec<(&'static str, Definition, &'static str)> {
    let mut all = Vec::new();
    // Deep recursion would end the daemon.
    let mut graph = Graph::default();
    let mut last = failing(&mut graph);
    for _ in 0..50_000 {
        last = graph.add(&file(vec![input(&last, 0)], vec![mkdir(0, 0)]));
    }
    all.push(("deep", graph.finish(&last), "/gone"));
    let wide = above_failing(|first| {
        let inputs = (0..100_000).map(|input| pb::MergeInput { input }).collect();
        of(vec![first; 100_000], op::Op::Merge(pb::MergeOp { inputs }))
    });
    all.push(("wide", wide, "/gone"));
    // 2^60 paths over 61 ops.
    let mut graph = Graph::default();
    let mut last = failing(&mut graph);
    for _ in 0..60 {
        let inputs = vec![pb::MergeInput { input: 0 }, pb::MergeInput { input: 1 }];
        last = graph.add(&of(vec![input(&last, 0); 2], op::Op::Merge(pb::MergeOp { inputs })));
    }
    all.push(("diamond", graph.finish(&last), "/gone"));
    let env = above_failing(|first| {
        let env = (0..100_000).map(|n| format!("VARIABLE_{n}=value")).collect();
        exec_with(first, pb::Meta { env, ..Default::default() })
    });
    all.push(("env", env, "/gone"));
    let platform = above_failing(|first| {
        let os_features = (0..100_000).map(|n| format!("feature-{n}")).collect();
        let platform = pb::Platform { os_features, ..pb::Platform::new("linux", "amd64") };
        pb::Op { platform: Some(platform), ..file(vec![first], vec![mkdir(0, 0)]) }
    });
    all.push(("platform", platform, "/gone"));
    let mut graph = Graph::default();
    let mut last = failing(&mut graph);
    for n in 0..100_000 {
        let platform = pb::Platform::new("linux", format!("cpu{n}"));
        last =
            graph.add(&pb::Op { platform: Some(platform), ..file(vec![input(&last, 0)], vec![mkdir(0, 0)]) });
    }
    all.push(("platforms", graph.finish(&last), "/gone"));
    let mut graph = Graph::default();
    let first = failing(&mut graph);
    let digest = graph.add(&file(vec![input(&first, 0)], vec![mkdir(0, 0)]));
    let mut metadata = graph.finish(&digest);
    // Of ops that there are not, and very much of one that there is.
    let of_none = (0..100_000).map(|n| (format!("sha256:{n:064x}"), pb::OpMetadata::default()));
    let description = (0..100_000).map(|n| (format!("key-{n}"), "value".to_owned()));
    let of_one = pb::OpMetadata { description: pb::map::from_map(description), ..Default::default() };
    metadata.metadata = pb::map::from_map(of_none.chain([(digest, of_one)]));
    all.push(("metadata", metadata, "/gone"));
    let large = |size: usize| {
        above_failing(|first| {
            let data = vec![b'x'; size].into();
            let make = pb::FileActionMkFile {
                path: "/f".into(),
                mode: 0o644,
                data,
                timestamp: -1,
                ..Default::default()
            };
            let action = pb::FileAction {
                input: 0,
                secondary_input: -1,
                output: 0,
                action: Some(Action::Mkfile(make)),
            };
            file(vec![first], vec![action])
        })
    };
    all.push(("large", large(MAX_OP_SIZE - (1 << 20)), "/gone"));
    // No op of this size fits into a message.
    all.push(("larger", large(MAX_OP_SIZE), ""));
    let empty = Definition { def: vec![bytes::Bytes::new(); MAX_OPS + 1], ..Definition::default() };
    all.push(("many", empty, "at most 500000 are allowed"));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_04_huge_definitions_end_in_time() {
    let mut sandbox = Sandbox::new();
    let before = sandbox.daemon.census();
    let resident = memory(&sandbox);
    let channel = connect(&sandbox).await;
    // One of them again and again: what it took is used again.
    let again = (0..4).filter_map(|_| bombs().into_iter().next());
    for (name, definition, text) in bombs().into_iter().chain(again) {
        let status = solve(&channel, name, definition).await.expect_err(name);
        assert!(status.message().contains(text), "{name}: {:.500}", status.message());
        if name == "larger" || name == "many" {
            let codes = [Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument];
            assert!(codes.contains(&status.code()), "{name}: {:.500}", status.message());
        }
    }
    drop(channel);
    // The largest has 100,000 vertices, others are one op of 16 MiB; allocators keep some of it. Were everything
    // kept, it would be twice as much.
    let most = memory(&sandbox);
    assert!(most < resident + (1280 << 10), "{resident} KiB before, {most} KiB at most");
    tokio::task::block_in_place(|| {
        sandbox.daemon.assert_nothing_left(&before);
        sandbox.assert_serves("after bombs");
    });
}

/// Everything of the context in scratch.
fn copied(context: buildkit_client_llb::Local) -> buildkit_client_llb::State {
    scratch().file(FileActions::from(copy(context.state(), "/", "/").contents_only()))
}

/// Bytes that are allocated below a directory.
fn allocated(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut stack = vec![dir.to_owned()];
    let mut sum = 0;
    while let Some(dir) = stack.pop() {
        for entry in fs_err::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = fs_err::symlink_metadata(entry.path()) else { continue };
            sum += metadata.blocks() * 512;
            if metadata.is_dir() {
                stack.push(entry.path());
            }
        }
    }
    sum
}

fn sparse(path: &std::path::Path, size: u64) {
    fs_err::File::create(path).and_then(|file| file.set_len(size)).expect("a sparse file");
}

#[test]
fn a4_03_sparse_files_stay_sparse() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let before = sandbox.daemon.census();
    let used = allocated(&sandbox.daemon.root());
    let context = sandbox.path("context");
    fs_err::create_dir(&context).expect("a directory");
    let build = |name: &str| {
        sandbox.build(&copied(local(name))).arg("--local").arg(format!("{name}={}", context.display()))
    };
    sparse(&context.join("sparse"), 1 << 30);
    let out = sandbox.path("out");
    build("context").args(to_directory(&out)).deadline(std::time::Duration::from_secs(500)).run().assert_ok();
    assert_eq!(fs_err::metadata(out.join("sparse")).expect("a file").len(), 1 << 30);
    let limit = 64 << 20;
    assert!(allocated(&sandbox.daemon.root()) < used + limit, "{used}");
    assert!(allocated(&out) < limit);
    // One that no disk holds: it takes its time, no space, and ends when its client does.
    sparse(&context.join("sparse"), 1 << 40);
    let mut client = build("other").start();
    client.wait_for_text("transferring other:");
    assert!(allocated(&sandbox.daemon.root()) < used + limit);
    client.signal(Signal::INT);
    client.wait().assert_fails();
    sandbox.daemon.assert_nothing_left(&before);
    assert!(allocated(&sandbox.daemon.root()) < used + limit);
    sandbox.assert_serves("after sparse files");
}

#[test]
fn a4_03_many_and_deep_files_arrive_or_are_refused() {
    let mut sandbox = Sandbox::new();
    let context = sandbox.path("context");
    for dir in 0..20 {
        fs_err::create_dir_all(context.join(dir.to_string())).expect("a directory");
        for file in 0..1_000 {
            fs_err::write(context.join(format!("{dir}/{file}")), "").expect("a file");
        }
    }
    // As deep as a path can be named.
    let deep = vec!["d"; 1_000].join("/");
    fs_err::create_dir_all(context.join(&deep)).expect("directories");
    fs_err::write(context.join(&deep).join("end"), "reached").expect("a file");
    let build = |name: &str| {
        sandbox.build(&copied(local(name))).arg("--local").arg(format!("{name}={}", context.display()))
    };
    let out = sandbox.path("out");
    build("context").args(to_directory(&out)).run().assert_ok();
    assert_eq!(fs_err::read_dir(out.join("19")).expect("a directory").count(), 1_000);
    assert_eq!(fs_err::read_to_string(out.join(&deep).join("end")).expect("a file"), "reached");
    // Deeper than that, made step by step.
    let mut below = fs_err::File::open(context.join(&deep)).expect("a directory").into_parts().0;
    let (mode, flags) = (rustix::fs::Mode::RWXU, rustix::fs::OFlags::DIRECTORY);
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&below, "d", mode).expect("a directory");
        below =
            rustix::fs::openat(&below, "d", flags, rustix::fs::Mode::empty()).expect("a directory").into();
    }
    let output = build("deeper").run().assert_fails();
    assert!(output.text().contains("too long"), "{}", output.text());
    sandbox.assert_serves("after many files");
}

#[test]
fn a4_03_patterns_are_bounded() {
    let mut sandbox = Sandbox::new();
    let context = sandbox.path("context");
    fs_err::create_dir_all(context.join("sub")).expect("a directory");
    for file in 0..20 {
        fs_err::write(context.join(format!("sub/{file}")), "x").expect("a file");
    }
    let build = |patterns: Vec<&str>| {
        let state = copied(local("context").exclude(patterns));
        sandbox.build(&state).arg("--local").arg(format!("context={}", context.display()))
    };
    let output = build(vec!["**/no-such-file"; 100_000]).run().assert_fails();
    let text = output.text();
    assert!(text.contains("local.excludepatterns") && text.contains("at most 1048576"), "{text:.2000}");
    let out = sandbox.path("out");
    build(vec!["**/x"; 100_000]).args(to_directory(&out)).run().assert_ok();
    assert_eq!(fs_err::read_dir(out.join("sub")).expect("a directory").count(), 20);
    // Each can match in many ways.
    let _ = fs_err::remove_dir_all(&out);
    let many_ways = "**/".repeat(1_000) + "x";
    build(vec![&many_ways; 100]).args(to_directory(&out)).run().assert_ok();
    assert_eq!(fs_err::read_dir(out.join("sub")).expect("a directory").count(), 20);
    // The same of a copy, which the daemon matches itself.
    let files = local("context").state();
    let patterns = vec!["**/x"; 100_000];
    let state = scratch().file(FileActions::from(copy(&files, "/", "/").contents_only().exclude(patterns)));
    let out = sandbox.path("copied");
    sandbox
        .build(&state)
        .arg("--local")
        .arg(format!("context={}", context.display()))
        .args(to_directory(&out))
        .run()
        .assert_ok();
    assert_eq!(fs_err::read_dir(out.join("sub")).expect("a directory").count(), 20);
    sandbox.assert_serves("after patterns");
}
