//! Files that are not files: nothing opens them, they pass as what they are.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use buildkit_client_llb::{FileActions, Owner, copy, local, mkfile, scratch};
use buildkit_frontend_gateway_pb as gw;
use buildkit_solver_pb as pb;
use buildkit_util_testutil::{Output, Run, Running, binary, busybox_rootfs, wait_for};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::Signal;
use tonic::Code;

use crate::client::{DEADLINE, connect};
use crate::dockerfiles::Context;
use crate::driven::Driven;
use crate::graph::{Graph, file, input, of};
use crate::hostile::share;
use crate::sandbox::{Sandbox, base, shell, to_directory};

/// A directory of the client with one file of each kind.
pub fn special_files(sandbox: &Sandbox) -> PathBuf {
    let dir = sandbox.path("special");
    fs_err::create_dir_all(dir.join("dir")).expect("a directory");
    let nodes = [
        ("pipe", FileType::Fifo, 0),
        // The zero device: one that reads it does not end.
        ("char", FileType::CharacterDevice, makedev(1, 5)),
        ("block", FileType::BlockDevice, makedev(8, 0)),
    ];
    for (name, kind, device) in nodes {
        mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), device).expect("a node (needs root)");
    }
    fs_err::write(dir.join("file"), "text").expect("a file");
    for name in ["pipe", "block"] {
        fs_err::os::unix::fs::symlink(name, dir.join(format!("to-{name}"))).expect("a link");
    }
    dir
}

fn assert_special(dir: &Path) {
    let kind = |name: &str| fs_err::symlink_metadata(dir.join(name)).expect("an entry");
    assert!(kind("pipe").file_type().is_fifo());
    assert!(kind("char").file_type().is_char_device());
    assert!(kind("block").file_type().is_block_device());
    assert_eq!((kind("char").rdev(), kind("block").rdev()), (makedev(1, 5), makedev(8, 0)));
    assert!(kind("to-pipe").file_type().is_symlink());
    assert_eq!(fs_err::read_to_string(dir.join("file")).expect("a file"), "text");
}

#[test]
fn a1_20_special_files_pass_as_what_they_are() {
    let mut sandbox = Sandbox::new();
    let context = special_files(&sandbox);
    let state = scratch().file(FileActions::from(copy(local("context").state(), "/", "/").contents_only()));
    let build = || sandbox.build(&state).arg("--local").arg(format!("context={}", context.display()));
    let out = sandbox.path("out");
    build().args(to_directory(&out)).run().assert_ok();
    assert_special(&out);
    let tar = sandbox.path("out.tar");
    build().arg("--output").arg(format!("type=tar,dest={}", tar.display())).run().assert_ok();
    let listed = buildkit_util_testutil::Run::new("tar").arg("-tvf").arg(&tar).run().assert_ok();
    for (kind, name) in [('p', "pipe"), ('c', "char"), ('b', "block"), ('l', "to-pipe"), ('-', "file")] {
        let is_kind = |line: &str| line.starts_with(kind) && line.contains(&format!(" {name}"));
        assert!(listed.stdout.lines().any(is_kind), "{kind} {name}: {}", listed.stdout);
    }
    sandbox.assert_serves("after special files");
}

#[test]
fn a1_20_special_files_of_steps_are_copied_as_nodes() {
    let mut sandbox = Sandbox::new();
    crate::helper::install(&sandbox.path("rootfs"));
    let made = shell(
        &base(),
        "cd /out && mkfifo pipe && mknod char c 1 5 && mknod block b 8 0 && ln -s pipe to-pipe && \
         /bin/step-helper socket socket && echo -n text > file && [ -S socket ]",
    );
    // By wildcard, by name, and through a link that is followed.
    let copied = scratch().file(
        FileActions::from(copy(&made, "/*", "/").allow_wildcard())
            .then(copy(&made, "/block", "/named"))
            .then(copy(&made, "/to-pipe", "/followed").follow_symlinks()),
    );
    let out = sandbox.export(&copied);
    assert_special(&out);
    let kind = |name: &str| fs_err::symlink_metadata(out.join(name)).expect("an entry").file_type();
    assert!(kind("named").is_block_device() && kind("followed").is_fifo());
    // The protocol has no sockets: it is there or not, and nobody connected to it.
    if let Ok(socket) = fs_err::symlink_metadata(out.join("socket")) {
        assert!(socket.file_type().is_socket() || (socket.is_file() && socket.len() == 0), "{socket:?}");
    }
    sandbox.assert_serves("after nodes");
}

#[test]
fn a1_20_special_user_files_are_not_opened() {
    let mut sandbox = Sandbox::new();
    for make in ["mkfifo", "mknod_char", "mknod_block", "socket"] {
        let node = |path: &str| match make {
            "mkfifo" => format!("mkfifo {path}"),
            "mknod_char" => format!("mknod {path} c 1 5"),
            "mknod_block" => format!("mknod {path} b 8 0"),
            _ => format!("/bin/step-helper socket {path}"),
        };
        crate::helper::install(&sandbox.path("rootfs"));
        let hostile = base()
            .run()
            .args([
                "/bin/sh",
                "-c",
                &format!(
                    "rm /etc/passwd /etc/group; rm -f /etc/hosts /etc/resolv.conf; {} && {}",
                    node("/etc/passwd"),
                    node("/etc/group")
                ),
            ])
            .done()
            .root();
        // By id nobody has to be looked up; by name there is none. Neither waits.
        let step = hostile.run().user("user").args(["/bin/sh", "-c", "true"]).done().root();
        sandbox.build(&step).run().assert_fails();
        let owned =
            hostile.file(FileActions::from(mkfile("/f", 0o644, "x").owner(Owner::parse("user:extra"))));
        let _ = sandbox.build(&owned).run();
    }
    sandbox.assert_serves("after user files");
}

/// What a program and those that it starts open.
struct Trace {
    tracer: Running,
    file: PathBuf,
}

/// Of `strace`, to follow what is started and to show the paths of what was opened.
const TRACE: [&str; 8] =
    ["-f", "-q", "-y", "-e", "trace=open,openat,openat2,connect", "-e", "signal=none", "-o"];

impl Trace {
    fn of_daemon(sandbox: &mut Sandbox) -> Self {
        let file = sandbox.path("trace");
        let tracer = Run::new("strace")
            .args(TRACE)
            .arg(&file)
            .args(["-p", &sandbox.daemon.id().to_string()])
            .deadline(Duration::from_secs(400))
            .start();
        // It has come to the daemon when that is seen to open something.
        wait_for("the trace", Duration::from_secs(60), || {
            sandbox.assert_serves("while it is traced");
            (!fs_err::read_to_string(&file).unwrap_or_default().is_empty()).then_some(())
        });
        Self { tracer, file }
    }

    fn end(mut self) -> Vec<String> {
        self.tracer.signal(Signal::INT);
        self.tracer.wait();
        calls(&self.file, 0)
    }
}

/// The calls of a trace behind these lines, each in one line. One that waited until the end is one, too.
fn calls(trace: &Path, behind: usize) -> Vec<String> {
    let mut begun = BTreeMap::new();
    let mut all = Vec::new();
    let trace = fs_err::read(trace).expect("a trace");
    for line in String::from_utf8_lossy(&trace).lines().skip(behind) {
        let Some((process, call)) = line.split_once(' ') else { continue };
        // Short numbers of processes have more blanks behind them.
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(process.to_owned(), start.to_owned());
        } else if let Some((_, end)) = call.split_once(" resumed>") {
            all.push(begun.remove(process).unwrap_or_default() + end);
        } else {
            all.push(call.to_owned());
        }
    }
    all.extend(begun.into_values());
    all
}

/// Whether one of the files with these ends of their paths is opened by a call, or is tried to. A handle for its
/// path alone does not open it.
fn opens(call: &str, ends: &[&str]) -> bool {
    let is_named = |end: &&str| {
        let parts = [("\"", "\""), ("/", "\""), ("/", ">")];
        parts.iter().any(|(before, after)| call.contains(&format!("{before}{end}{after}")))
    };
    let is_not_there = ["ENOENT", "ELOOP"].iter().any(|error| call.contains(&format!("= -1 {error}")));
    ends.iter().any(is_named) && !is_not_there && !call.contains("O_PATH")
}

/// Whether a socket is connected to, or is tried to be opened, which no socket can be.
fn reaches(call: &str, sockets: &[&str], is_client: bool) -> bool {
    // A client asks for what it offered as an empty file, and is told then that it is a socket.
    let is_tried = !is_client && call.contains("= -1 ENXIO");
    opens(call, sockets) && (is_tried || call.starts_with("connect("))
}

#[test]
fn a1_20_the_watch_knows_what_is_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let trace = dir.path().join("trace");
    let lines = "1   openat(3</a>, \"canary-pipe\", O_RDONLY <unfinished ...>\n\
                 22  connect(4<UNIX>, {sa_family=AF_UNIX, sun_path=\"/a/canary-socket\"}, 17) = -1 ECONNREFUSED\n\
                 1   <... openat resumed>) = 5</a/canary-pipe>\n\
                 22  openat(3</a>, \"canary-socket\", O_RDONLY) = -1 ENXIO\n\
                 333 openat(3</a>, \"canary-pipe\", O_RDONLY|O_PATH) = 5</a/canary-pipe>\n\
                 333 openat(3</a>, \"canary-pipe\", O_RDONLY) = -1 ENOENT\n\
                 333 openat(3</a>, \"other\", O_RDONLY) = 5</a/canary-pipe/other>\n\
                 333 openat(3</a>, \"canary-pipe\", O_WRONLY <unfinished ...>\n";
    fs_err::write(&trace, lines).expect("a trace");
    let calls = calls(&trace, 0);
    assert_eq!(calls.len(), 7, "{calls:#?}");
    let opened = calls.iter().map(|call| opens(call, &CANARIES));
    assert_eq!(opened.collect::<Vec<_>>(), [false, true, false, false, false, false, true]);
    for is_client in [false, true] {
        let reached: Vec<_> = calls.iter().map(|call| reaches(call, &SOCKETS, is_client)).collect();
        assert_eq!(reached, [true, false, !is_client, false, false, false, false]);
    }
}

/// One of each kind, and what is none. Nothing else has these names.
fn canaries(dir: &Path) {
    fs_err::create_dir_all(dir).expect("a directory");
    let nodes = [
        ("canary-pipe", FileType::Fifo, 0),
        ("canary-char", FileType::CharacterDevice, makedev(1, 5)),
        ("canary-block", FileType::BlockDevice, makedev(8, 0)),
        (SOCKETS[0], FileType::Socket, 0),
    ];
    for (name, kind, device) in nodes {
        mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o644), device).expect("a node (needs root)");
    }
    fs_err::write(dir.join("canary-file"), "text").expect("a file");
}

fn pipe(path: &Path) {
    let _ = fs_err::remove_file(path);
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("a pipe");
}

/// Ends of paths that are special wherever they are in this test.
const CANARIES: [&str; 6] = [
    "canary-pipe",
    "canary-char",
    "canary-block",
    "canary-recipe",
    "canary-file.dockerignore",
    ".dockerignore",
];
/// Sockets of a client and of a step. What is made of them where they are copied are empty files.
const SOCKETS: [&str; 2] = ["canary-socket", "canary-listener"];
/// The same of an image. The machine has such files, too.
const ETC: [&str; 4] = ["etc/passwd", "etc/group", "etc/hosts", "etc/resolv.conf"];

/// With names that nothing else has, and a trace of all that the daemon and its clients open.
#[tokio::test(flavor = "multi_thread")]
async fn a1_20_no_special_file_is_opened() {
    let mut sandbox = Sandbox::new();
    let trace = Trace::of_daemon(&mut sandbox);
    of_steps(&sandbox);
    let mut of_clients = of_a_context(&sandbox);
    of_clients.extend(instead_of_a_dockerfile(&sandbox));
    over_the_bridge(&sandbox).await;
    sandbox.assert_serves("at the end of the trace");
    let calls = trace.end();
    for (who, is_client, calls) in [("the daemon", false, &calls), ("a client", true, &of_clients)] {
        let is_regular = |call: &String| opens(call, &["canary-file"]);
        assert!(calls.iter().any(is_regular), "the trace shows what {who} opens");
        let is_wrong = |call: &&String| opens(call, &CANARIES) || reaches(call, &SOCKETS, is_client);
        let wrong: Vec<_> = calls.iter().filter(is_wrong).collect();
        assert!(wrong.is_empty(), "{who}: {wrong:#?}");
    }
}

/// What a step made, and what is copied of that.
fn of_steps(sandbox: &Sandbox) {
    let dockerfile = "FROM busybox AS made\nENV PATH=/bin\n\
                      RUN mkfifo /canary-pipe && mknod /canary-char c 1 5 && mknod /canary-block b 8 0 && \
                      ln -s canary-pipe /canary-link && echo text > /canary-file && \
                      /bin/step-helper socket /canary-listener && [ -S /canary-listener ]\n\
                      FROM scratch\nCOPY --from=made /canary-* /\nCOPY --chown=1:1 --from=made /canary-link /followed\n";
    crate::helper::install(&sandbox.path("rootfs"));
    let out = Context::new(sandbox, "steps", dockerfile).export(sandbox, &[]);
    assert!(fs_err::symlink_metadata(out.join("canary-pipe")).expect("an entry").file_type().is_fifo());
}

/// `buildctl build` of a directory, and what that opens.
fn traced_build(sandbox: &Sandbox, directory: &Path, args: &[&str]) -> (Output, Vec<String>) {
    let file = sandbox.path("trace of a client");
    let local = |kind: &str| format!("{kind}={}", directory.display());
    let built = Run::new("strace")
        .args(TRACE)
        .arg(&file)
        .arg(binary("buildctl"))
        .args(["build", "--progress", "plain", "--frontend", "dockerfile.v0"])
        .args(["--local", &local("context"), "--local", &local("dockerfile")])
        .args(args)
        .env("BUILDKIT_HOST", sandbox.daemon.address())
        .run();
    (built, calls(&file, 0))
}

/// Files of the client, copied, added (an archive is looked for in what is added) and exported.
fn of_a_context(sandbox: &Sandbox) -> Vec<String> {
    let dockerfile = "FROM scratch AS all\nCOPY / /all/\n\
                      FROM scratch\nCOPY --from=all /all /all\n\
                      ADD canary-file canary-pipe canary-socket canary-char canary-block /added/\n\
                      ADD --chown=1:1 --chmod=600 canary-pipe /changed\nADD --link canary-char /linked\n";
    let context = Context::new(sandbox, "nodes", dockerfile);
    canaries(context.path());
    let out = sandbox.path("out of nodes");
    let output = to_directory(&out);
    let (built, calls) = traced_build(sandbox, context.path(), &[&output[0], &output[1]]);
    built.assert_ok();
    for directory in ["all", "added"] {
        let kind = |name: &str| {
            fs_err::symlink_metadata(out.join(directory).join(name)).map(|entry| entry.file_type())
        };
        assert!(kind("canary-pipe").is_ok_and(|kind| kind.is_fifo()), "{directory}");
        assert!(kind("canary-char").is_ok_and(|kind| kind.is_char_device()), "{directory}");
        assert!(kind("canary-block").is_ok_and(|kind| kind.is_block_device()), "{directory}");
    }
    calls
}

/// A Dockerfile and ignore files that are none.
fn instead_of_a_dockerfile(sandbox: &Sandbox) -> Vec<String> {
    let mut all = Vec::new();
    for name in ["canary-recipe", "canary-file.dockerignore", ".dockerignore"] {
        let context = Context::new(sandbox, &format!("with {name} in it"), "");
        let filename = if name == "canary-recipe" { name } else { "canary-file" };
        fs_err::write(context.path().join(filename), "FROM scratch\nCOPY canary-file /\n").expect("a file");
        pipe(&context.path().join(name));
        let option = format!("filename={filename}");
        let (built, calls) = traced_build(sandbox, context.path(), &["--opt", &option]);
        assert!(!built.status.success() || name.ends_with("ignore"), "{name}: a pipe was read");
        all.extend(calls);
    }
    all
}

/// The files that users are looked up in, and those that steps are given.
#[test]
fn a1_20_no_special_file_of_an_image_is_opened() {
    let mut sandbox = Sandbox::new();
    let trace = Trace::of_daemon(&mut sandbox);
    let seen = || fs_err::read(&trace.file).expect("a trace").iter().filter(|byte| **byte == b'\n').count();
    for (pipes, step, is_built) in [
        (&ETC[2..], "RUN true", true),
        (&ETC[..], "COPY --chown=user:extra canary-file /", true),
        (&ETC[..], "USER user\nRUN true", false),
        // The runtime would wait for them, whoever runs the step.
        (&ETC[..], "RUN true", false),
    ] {
        let before = seen();
        let image = sandbox.path("image");
        let _ = fs_err::remove_dir_all(&image);
        busybox_rootfs(&image);
        for name in pipes {
            pipe(&image.join(name));
        }
        let dockerfile = format!("FROM pipes\nENV PATH=/bin\n{step}\n");
        let context = Context::new(&sandbox, "context", &dockerfile).file("canary-file", "");
        let built = context
            .build(&sandbox)
            .args(["--opt", "context:pipes=local:pipes", "--local", &format!("pipes={}", image.display())])
            .run();
        assert_eq!(built.status.success(), is_built, "{step}: {}", built.text());
        let calls = calls(&trace.file, before);
        assert!(calls.iter().any(|call| opens(call, &["Dockerfile"])), "the trace shows what is opened");
        // Programs ask for those of the machine by their whole path, and those of steps do in their own root.
        let is_own = |call: &str| ETC.iter().any(|name| call.contains(&format!(", \"/{name}\"")));
        let wrong: Vec<_> = calls.iter().filter(|call| opens(call, pipes) && !is_own(call)).collect();
        assert!(wrong.is_empty(), "{step}: {wrong:#?}");
    }
    trace.end();
    sandbox.assert_serves("after pipes of images");
}

async fn over_the_bridge(sandbox: &Sandbox) {
    let directory = sandbox.path("read");
    canaries(&directory);
    let channel = connect(sandbox).await;
    let session = share(&channel, "context", &directory).await;
    let build = Driven::start(&channel, None);
    let reference = copied(&build, &session.id).await;
    let mut bridge = build.bridge();
    for name in ["canary-pipe", "canary-char", "canary-block"] {
        let request =
            gw::ReadFileRequest { r#ref: reference.clone(), file_path: name.into(), ..Default::default() };
        let reading = bridge.read_file(build.request(request));
        let read =
            tokio::time::timeout(DEADLINE, reading).await.unwrap_or_else(|_| panic!("{name}: is read"));
        assert_eq!(read.expect_err(name).code(), Code::InvalidArgument, "{name}");
    }
    let request = gw::ReadFileRequest {
        r#ref: reference.clone(),
        file_path: "canary-file".into(),
        ..Default::default()
    };
    assert_eq!(bridge.read_file(build.request(request)).await.expect("regular").into_inner().data, "text");
}

/// A ref of a driven build, with all that the session shares as `context`.
async fn copied(build: &Driven, session: &str) -> String {
    let mut graph = Graph::default();
    let source = pb::SourceOp {
        identifier: "local://context".to_owned(),
        attrs: pb::map::from_map([("local.session".to_owned(), session.to_owned())]),
    };
    let source = graph.add(&of(vec![], pb::op::Op::Source(source)));
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
    let request = gw::SolveRequest {
        definition: Some(graph.finish(&copied)),
        allow_result_return: true,
        allow_result_array_ref: true,
        evaluate: true,
        ..gw::SolveRequest::default()
    };
    let answer = build.bridge().solve(build.request(request)).await.expect("copies nodes").into_inner();
    let Some(gw::result::Result::Ref(reference)) = answer.result.and_then(|result| result.result) else {
        panic!("no ref");
    };
    reference.id
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_20_the_bridge_reads_regular_files_alone() {
    let sandbox = Sandbox::new();
    let context = special_files(&sandbox);
    let channel = connect(&sandbox).await;
    let session = share(&channel, "context", &context).await;
    let build = Driven::start(&channel, None);
    let reference = copied(&build, &session.id).await;
    let mut bridge = build.bridge();
    for name in ["pipe", "char", "block", "to-pipe", "to-block", "dir"] {
        let request = gw::ReadFileRequest {
            r#ref: reference.clone(),
            file_path: name.into(),
            ..gw::ReadFileRequest::default()
        };
        let reading = bridge.read_file(build.request(request));
        let status = tokio::time::timeout(DEADLINE, reading)
            .await
            .unwrap_or_else(|_| panic!("{name}: is read"))
            .expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
    }
    let request =
        gw::ReadFileRequest { r#ref: reference.clone(), file_path: "file".into(), ..Default::default() };
    assert_eq!(bridge.read_file(build.request(request)).await.expect("regular").into_inner().data, "text");
    let request = gw::ReadDirRequest { r#ref: reference.clone(), dir_path: "/".into(), ..Default::default() };
    let entries = bridge.read_dir(build.request(request)).await.expect("a directory").into_inner().entries;
    assert!(entries.iter().any(|entry| entry.path == "block" && entry.devmajor == 8), "{entries:?}");
}
