//! Files that are not files: nothing opens them, they pass as what they are.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use buildkit_client_llb::{FileActions, Owner, copy, local, mkfile, scratch};
use buildkit_frontend_gateway_pb as gw;
use buildkit_solver_pb as pb;
use buildkit_util_testutil::{Run, wait_for};
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

/// With names that nothing else has, and a trace of all that the daemon opens.
#[test]
fn a1_20_no_special_file_is_opened() {
    let mut sandbox = Sandbox::new();
    let trace = sandbox.path("trace");
    let mut tracer = Run::new("strace")
        .args(["-f", "-q", "-y", "-e", "trace=open,openat,openat2", "-e", "signal=none", "-o"])
        .arg(&trace)
        .args(["-p", &sandbox.daemon.id().to_string()])
        .start();
    let traced = || fs_err::read_to_string(&trace).unwrap_or_default();
    // It has come to the daemon when that is seen to open something.
    wait_for("the trace", Duration::from_secs(60), || {
        sandbox.assert_serves("while it is traced");
        (!traced().is_empty()).then_some(())
    });
    let dockerfile = "FROM busybox AS made\nENV PATH=/bin\n\
                      RUN mkfifo /canary-pipe && mknod /canary-char c 1 5 && mknod /canary-block b 8 0 && \
                      ln -s canary-pipe /canary-link && echo text > /canary-file\n\
                      FROM scratch\nCOPY --from=made /canary-* /\nCOPY --chown=1:1 --from=made /canary-link /followed\n";
    let context = Context::new(&sandbox, "context", dockerfile);
    let out = sandbox.path("out");
    context.build(&sandbox).args(to_directory(&out)).run().assert_ok();
    assert!(fs_err::symlink_metadata(out.join("canary-pipe")).expect("an entry").file_type().is_fifo());
    // A Dockerfile and an ignore file that are none.
    for name in ["canary.Dockerfile", "canary.Dockerfile.dockerignore"] {
        let directory = sandbox.path(&format!("of-{name}"));
        fs_err::create_dir(&directory).expect("a directory");
        fs_err::write(directory.join("canary.Dockerfile"), "FROM scratch\n").expect("a file");
        let _ = fs_err::remove_file(directory.join(name));
        mknodat(CWD, directory.join(name), FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("a pipe");
        let local = |kind: &str| format!("{kind}={}", directory.display());
        let built = sandbox
            .daemon
            .buildctl(["build", "--frontend", "dockerfile.v0", "--opt", "filename=canary.Dockerfile"])
            .args(["--local", &local("context"), "--local", &local("dockerfile")])
            .run();
        assert!(!built.status.success() || name.ends_with("ignore"), "a pipe was read");
    }
    sandbox.assert_serves("at the end of the trace");
    tracer.signal(Signal::INT);
    tracer.wait();
    let opened: Vec<String> = traced()
        .lines()
        .filter(|line| line.rsplit_once(" = ").is_some_and(|(_, result)| result.contains("canary")))
        .map(str::to_owned)
        .collect();
    assert!(opened.iter().any(|line| line.contains("canary-file")), "the trace shows what is opened");
    let is_special =
        |line: &&String| ["pipe>", "char>", "block>", "ignore>"].iter().any(|end| line.contains(end));
    let wrong: Vec<_> = opened.iter().filter(is_special).filter(|line| !line.contains("O_PATH")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_20_the_bridge_reads_regular_files_alone() {
    let sandbox = Sandbox::new();
    let context = special_files(&sandbox);
    let channel = connect(&sandbox).await;
    let session = share(&channel, "context", &context).await;
    let build = Driven::start(&channel, None);
    let mut graph = Graph::default();
    let source = pb::SourceOp {
        identifier: "local://context".to_owned(),
        attrs: pb::map::from_map([("local.session".to_owned(), session.id.clone())]),
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
    let mut bridge = build.bridge();
    let answer = bridge.solve(build.request(request)).await.expect("copies nodes").into_inner();
    let Some(gw::result::Result::Ref(reference)) = answer.result.and_then(|result| result.result) else {
        panic!("no ref");
    };
    for name in ["pipe", "char", "block", "to-pipe", "to-block", "dir"] {
        let request = gw::ReadFileRequest {
            r#ref: reference.id.clone(),
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
        gw::ReadFileRequest { r#ref: reference.id.clone(), file_path: "file".into(), ..Default::default() };
    assert_eq!(bridge.read_file(build.request(request)).await.expect("regular").into_inner().data, "text");
    let request =
        gw::ReadDirRequest { r#ref: reference.id.clone(), dir_path: "/".into(), ..Default::default() };
    let entries = bridge.read_dir(build.request(request)).await.expect("a directory").into_inner().entries;
    assert!(entries.iter().any(|entry| entry.path == "block" && entry.devmajor == 8), "{entries:?}");
}
