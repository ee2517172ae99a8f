// What holds for each runtime: `RUNTIME` is the one to test, of the module that includes this.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use buildkit_executor::{
    ContainerMount, Error, ExecMount, Executor, HostEntry, Meta, NetMode, ProcessIo, ProcessSpec,
    ResourceLimits, SecurityMode, Ulimit,
};
use buildkit_executor_runcexecutor::{Options, RuncExecutor};
use buildkit_snapshot::{Mount, MountKind};
use crate::common::{Fixture, Sink, bind, mount, request, sh};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn conformance() {
    let fixture = Fixture::new(RUNTIME).await;
    buildkit_executor::testsuite::run(&fixture.executor, &fixture.root(), &crate::common::next_id()).await;
}

#[tokio::test]
async fn output_exit_codes_and_environment() {
    let fixture = Fixture::new(RUNTIME).await;
    let out = fixture
        .run(Meta { env: vec!["PATH=/bin".into(), "A=b c".into()], ..sh("echo $A; echo e >&2; exit 3") })
        .await;
    assert_eq!((out.stdout.as_str(), out.stderr.as_str(), out.exit.code), ("b c\n", "e\n", 3));
    assert!(!out.exit.oom_killed && out.exit.signal.is_none());
    let out = fixture.run(sh("sh -c 'kill -9 $$'; exit $?")).await;
    assert_eq!((out.exit.code, out.exit.signal), (137, Some(9)));
    let out = fixture.run(sh("cat; echo end")).await;
    assert_eq!(out.stdout, "end\n", "standard input is empty");
}

#[tokio::test]
async fn identity_of_the_container() {
    let fixture = Fixture::new(RUNTIME).await;
    let out = fixture.run(sh("hostname; cat /etc/hosts; echo $$; pwd")).await;
    assert_eq!(
        out.stdout,
        "buildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n1\n/\n"
    );
    let meta = Meta {
        hostname: "other".into(),
        extra_hosts: vec![HostEntry { host: "x".into(), ip: "10.9.8.7".parse().expect("ip") }],
        cwd: "/src/deep".into(),
        user: "u".into(),
        ..sh("hostname; tail -n1 /etc/hosts; pwd; stat -c %u:%g .; id -u; id -G; touch f")
    };
    let out = fixture.run(meta).await;
    assert_eq!(out.stdout, "other\n10.9.8.7\tx\n/src/deep\n1000:1001\n1000\n1001 50\n");
    assert_eq!(out.exit.code, 0, "{}", out.stderr);
}

#[tokio::test]
async fn a2_08_groups_are_those_of_the_image() {
    let fixture = Fixture::new(RUNTIME).await;
    let secret = fixture.path("rootfs/secret");
    std::fs::write(&secret, "s").expect("file");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o604)).expect("mode");
    std::os::unix::fs::chown(&secret, Some(0), Some(1001)).expect("owner");
    let out = fixture.run(Meta { user: "u:u".into(), ..sh("id -G; cat /secret") }).await;
    assert_eq!(out.stdout, "1001\n");
    assert!(out.stderr.contains("Permission denied"), "members of the group are shut out: {}", out.stderr);
    let out = fixture.run(Meta { user: "u:extra".into(), ..sh("id -G; cat /secret") }).await;
    assert_eq!(out.stdout, "50\ns");
    let error = fixture.run_with(fixture.root(), Meta { user: "none".into(), ..sh("true") }, vec![]).await;
    let error = error.err().expect("no such user").to_string();
    assert_eq!(error, "unable to find user none: no matching entries in passwd file");
}

/// The runtime would wait for them.
#[tokio::test]
async fn a1_20_lists_of_users_are_no_pipes() {
    for name in ["passwd", "group"] {
        let fixture = Fixture::new(RUNTIME).await;
        let list = fixture.path("rootfs/etc").join(name);
        std::fs::remove_file(&list).expect("a list");
        let made = std::process::Command::new("mkfifo").arg(&list).status().expect("mkfifo");
        assert!(made.success());
        for user in ["", "0:0", "1000"] {
            let meta = Meta { user: user.into(), ..sh("true") };
            let error =
                fixture.run_with(fixture.root(), meta, vec![]).await.err().expect("refused").to_string();
            assert_eq!(error, format!("/etc/{name} of the root file system is a pipe or a device"));
        }
    }
}

#[tokio::test]
async fn a2_07_a1_12_privileges_of_the_sandbox() {
    let fixture = Fixture::new(RUNTIME).await;
    let out = fixture.run(sh("grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status")).await;
    let expect = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
        CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n";
    assert_eq!(out.stdout, expect);
    let insecure = Meta {
        security: SecurityMode::Insecure,
        ..sh("grep -E '^(CapBnd|Seccomp:)' /proc/self/status; mount -t tmpfs t /tmp && ls /dev/fuse")
    };
    let out = fixture.run(insecure).await;
    let host = std::fs::read_to_string("/proc/self/status").expect("status");
    let bounding =
        host.lines().find(|line| line.starts_with("CapEff")).expect("caps").replace("CapEff", "CapBnd");
    assert_eq!(out.stdout, format!("{bounding}\nSeccomp:\t0\n/dev/fuse\n"), "{}", out.stderr);
}

#[tokio::test]
async fn a4_17_what_tells_of_the_host_is_masked() {
    let fixture = Fixture::new(RUNTIME).await;
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do [ -e $f ] && head -c1 $f; done; \
        ls /sys/firmware /sys/devices/virtual/powercap 2>/dev/null; \
        echo x > /proc/sys/kernel/hostname; mkdir /sys/kernel/x; for c in /sys/fs/cgroup/*; do mkdir $c/x && echo $c is writable; done; true";
    let out = fixture.run(sh(script)).await;
    let listed = out.stdout.lines().filter(|line| !line.ends_with(':') && !line.is_empty()).count();
    assert_eq!(listed, 0, "{}", out.stdout);
    assert!(out.stderr.matches("Read-only file system").count() >= 3, "{}", out.stderr);
}

#[tokio::test]
async fn a2_24_the_environment_of_the_daemon_stays_outside() {
    let fixture = Fixture::new(RUNTIME).await;
    let out = fixture
        .run(Meta { env: vec!["PATH=/bin".into()], ..sh("env; tr '\\0' '\\n' < /proc/1/environ") })
        .await;
    let names: Vec<&str> = out.stdout.lines().filter_map(|line| line.split('=').next()).collect();
    let unexpected: Vec<_> =
        names.iter().filter(|name| !["PATH", "PWD", "SHLVL", "HOME"].contains(name)).collect();
    assert!(unexpected.is_empty() && names.contains(&"PATH"), "{names:?}");
}

#[tokio::test]
async fn a2_31_network_modes() {
    let fixture = Fixture::new(RUNTIME).await;
    let script = "ls /sys/class/net; cat /sys/class/net/lo/operstate; ping -c1 -W1 127.0.0.1 >/dev/null && echo up; \
        ip route; cat /proc/net/route | wc -l";
    let out = fixture.run(Meta { network: NetMode::None, ..sh(script) }).await;
    let interfaces: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(interfaces.first(), Some(&"lo"), "{}", out.stdout);
    assert_eq!(&interfaces[interfaces.len() - 2..], ["up", "1"], "no route but a header: {}", out.stdout);
    let host = std::fs::read_link("/proc/self/ns/net").expect("namespace");
    let own = fixture.run(Meta { network: NetMode::Host, ..sh("readlink /proc/self/ns/net") }).await;
    assert_eq!(own.stdout.trim(), host.to_string_lossy());
}

#[tokio::test]
async fn limits() {
    let fixture = Fixture::new(RUNTIME).await;
    let meta = Meta {
        ulimits: vec![Ulimit { name: "nofile".into(), soft: 123, hard: 456 }],
        ..sh("ulimit -Sn; ulimit -Hn")
    };
    assert_eq!(fixture.run(meta).await.stdout, "123\n456\n");
    let limits =
        ResourceLimits { memory: Some(32 << 20), memory_swap: Some(32 << 20), ..ResourceLimits::default() };
    let meta = Meta { limits, ..sh("head -c 200m /dev/zero | tail -c 150m | wc -c") };
    let out = fixture.run(meta).await;
    assert!(out.exit.oom_killed, "{:?} {}", out.exit, out.stdout);
}

#[tokio::test]
async fn b_22_a_fork_bomb_meets_a_limit() {
    let fixture = Fixture::with(RUNTIME, |options| options.pids_limit = Some(20)).await;
    let out = fixture.run(sh("for i in $(seq 40); do sleep 100 & done; echo all; exit 0")).await;
    assert!(out.stderr.contains("fork") && !out.stdout.contains("all"), "{} {}", out.stdout, out.stderr);
    assert!(Options::new("").pids_limit.is_some_and(|limit| (1..=32_768).contains(&limit)));
}

#[tokio::test]
async fn failures_to_start_carry_the_words_of_the_runtime() {
    let fixture = Fixture::new(RUNTIME).await;
    let meta = Meta { args: vec!["/bin/none".into()], ..sh("") };
    let error = fixture.run_with(fixture.root(), meta, vec![]).await.err().expect("no such program");
    let Error::Runtime { detail, status } = &error else { panic!("{error:?}") };
    assert!(detail.contains("/bin/none") && !detail.contains('\n'), "{detail}");
    assert_ne!(*status, 0);
    let (mut bad, ..) = request(fixture.root(), sh("true"), vec![]);
    bad.id = "../x".into();
    assert!(matches!(fixture.executor.run(bad).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn mounts_show_their_sources_and_leave_no_stubs() {
    let fixture = Fixture::new(RUNTIME).await;
    std::fs::create_dir_all(fixture.path("data/sub")).expect("dir");
    std::fs::write(fixture.path("data/sub/f"), "from snapshot").expect("file");
    std::fs::write(fixture.path("host"), "from host").expect("file");
    fixture.run(sh("true")).await;
    let before = fixture.tree();
    let snapshot = |selector: &str| ContainerMount::Snapshot {
        mount: bind(fixture.path("data")),
        selector: selector.into(),
    };
    let mounts = vec![
        mount(snapshot(""), "/m/whole"),
        mount(snapshot("sub"), "relative"),
        ExecMount { readonly: true, ..mount(snapshot("/sub/f"), "/m/file") },
        mount(ContainerMount::Host { path: fixture.path("host") }, "/run/secrets/s"),
        mount(ContainerMount::Tmpfs { size: 1 << 20 }, "/scratch"),
        mount(ContainerMount::Tmpfs { size: 2 << 20 }, "/dev/shm"),
    ];
    let script = "cat /m/whole/sub/f /work/relative/f /m/file /run/secrets/s; echo; \
        df -k /scratch /dev/shm | awk 'NR>1{print $2}'; echo x > /m/file; echo new > /m/whole/new; echo y > /scratch/y";
    let meta = Meta { cwd: "/work".into(), remove_mount_stubs_recursive: true, ..sh(script) };
    let out = fixture.run_with(fixture.root(), meta, mounts).await.expect("ran");
    assert_eq!(
        out.stdout, "from snapshotfrom snapshotfrom snapshotfrom host\n1024\n2048\n",
        "{}",
        out.stderr
    );
    assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
    assert_eq!(std::fs::read_to_string(fixture.path("data/new")).expect("written"), "new\n");
    let mut after = fixture.tree();
    assert_eq!(after.remove("work"), None, "made for a mount only");
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_tmpfs_is_writable_for_all() {
    let fixture = Fixture::new(RUNTIME).await;
    let mounts = vec![mount(ContainerMount::Tmpfs { size: 0 }, "/new")];
    let meta = Meta { user: "u".into(), ..sh("stat -c %a /new; touch /new/x && echo written") };
    let out = fixture.run_with(fixture.root(), meta, mounts).await.expect("ran");
    assert_eq!(out.stdout, "1777\nwritten\n", "{}", out.stderr);
}

#[tokio::test]
async fn overlay_roots_and_mounts() {
    let fixture = Fixture::new(RUNTIME).await;
    for name in ["upper", "work", "two"] {
        std::fs::create_dir(fixture.path(name)).expect("dir");
    }
    std::fs::write(fixture.path("two/below"), "b").expect("file");
    let overlay = |writable: bool| Mount {
        kind: MountKind::Overlay {
            lower: vec![fixture.path("two"), fixture.path("rootfs")],
            upper: writable.then(|| fixture.path("upper")),
            work: writable.then(|| fixture.path("work")),
            options: vec![],
        },
        source: "".into(),
        readonly: !writable,
    };
    let view = |selector: &str, dest: &str| {
        mount(ContainerMount::Snapshot { mount: overlay(false), selector: selector.into() }, dest)
    };
    let mounts = vec![view("", "/v"), view("below", "/w")];
    let out = fixture
        .run_with(overlay(true), sh("cat /below /v/below /w; echo x > /new; rm /etc/group"), mounts)
        .await;
    assert_eq!(out.expect("ran").stdout, "bbb");
    assert!(fixture.path("upper/new").exists() && !fixture.path("upper/w").exists());
    assert!(!fixture.path("rootfs/new").exists());
}

#[tokio::test]
async fn a2_05_a2_22_hostile_images_and_destinations() {
    let fixture = Fixture::new(RUNTIME).await;
    let tmpfs = || ContainerMount::Tmpfs { size: 0 };
    for dest in ["/proc", "/sys", "/proc/self/attr", "/sys/fs/cgroup", "/"] {
        let result = fixture.run_with(fixture.root(), sh("true"), vec![mount(tmpfs(), dest)]).await;
        assert!(matches!(result, Err(Error::Invalid(_))), "{dest}");
    }
    let outside = fixture.path("outside");
    std::fs::create_dir(&outside).expect("dir");
    std::fs::write(outside.join("hosts"), "canary").expect("canary");
    std::fs::remove_dir_all(fixture.path("rootfs/etc")).expect("etc");
    symlink(&outside, fixture.path("rootfs/etc")).expect("link");
    let out = fixture.run_with(fixture.root(), sh("cat /etc/hosts"), vec![]).await.expect("ran");
    assert!(out.stdout.contains("buildkitsandbox"), "{}", out.stderr);
    let left: Vec<_> = std::fs::read_dir(&outside).expect("list").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["hosts"]);
    assert_eq!(std::fs::read_to_string(outside.join("hosts")).expect("canary"), "canary");
}

#[tokio::test]
async fn a1_07_stub_cleanup_touches_nothing_outside() {
    let fixture = Fixture::new(RUNTIME).await;
    let canary = fixture.path("canary");
    std::fs::create_dir_all(canary.join("b/c")).expect("canary");
    std::fs::write(canary.join("f"), "").expect("canary");
    std::fs::write(fixture.path("secret"), "s").expect("secret");
    let sources = [
        ContainerMount::Tmpfs { size: 0 },
        ContainerMount::Host { path: fixture.path("secret") },
        ContainerMount::Snapshot { mount: bind(fixture.path("canary")), selector: "b".into() },
    ];
    for source in sources {
        let script = format!("umount /a/b/c; mv /a /moved; ln -s {} /a; ls -l /a", canary.display());
        let meta =
            Meta { security: SecurityMode::Insecure, remove_mount_stubs_recursive: true, ..sh(&script) };
        let out = fixture.run_with(fixture.root(), meta, vec![mount(source, "/a/b/c")]).await.expect("ran");
        assert_eq!(out.exit.code, 0, "{}", out.stderr);
        assert!(canary.join("b/c").is_dir() && canary.join("f").is_file());
        assert!(fixture.path("rootfs/a").is_symlink());
        std::fs::remove_file(fixture.path("rootfs/a")).expect("link");
        let _ = std::fs::remove_dir_all(fixture.path("rootfs/moved"));
    }
}

#[tokio::test]
async fn a1_06_a2_21_selectors_never_lead_outside() {
    let fixture = Fixture::new(RUNTIME).await;
    let data = fixture.path("data");
    std::fs::create_dir_all(data.join("d")).expect("dir");
    std::fs::write(fixture.path("host-canary"), "outside").expect("canary");
    symlink(fixture.dir.path(), data.join("evil")).expect("link");
    for selector in ["../", "/../..", "evil/host-canary", "none"] {
        let source = ContainerMount::Snapshot { mount: bind(&data), selector: selector.into() };
        let result = fixture.run_with(fixture.root(), sh("ls -a /m"), vec![mount(source, "/m")]).await;
        match result {
            Ok(out) => assert!(!out.stdout.contains("host-canary"), "{selector}: {}", out.stdout),
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{error:?}"),
        }
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let swap = || {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
            rustix::fs::renameat_with(cwd, data.join("d"), cwd, data.join("evil"), flags).expect("swap");
        }
    };
    let mounts = fixture.path("mounts");
    std::thread::scope(|scope| {
        scope.spawn(swap);
        let source = ContainerMount::Snapshot { mount: bind(&data), selector: "d".into() };
        let exec = mount(source, "/m");
        let mut found = 0;
        for _ in 0..buildkit_util_testutil::rounds(2000) {
            let mut prepared = buildkit_executor_oci::PreparedMounts::new(mounts.clone());
            if let Ok((spec, _)) = prepared.prepare(&exec, "/m") {
                assert_eq!(
                    std::fs::read_dir(&spec.source).expect("list").count(),
                    0,
                    "the directory outside is not empty"
                );
                found += 1;
            }
            drop(prepared);
            // Without a try that got as far there is none.
            let _ = std::fs::remove_dir_all(&mounts);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(found > 0);
    });
}

#[tokio::test]
async fn b_22_b_23_cancel_ends_everything() {
    let fixture = Fixture::new(RUNTIME).await;
    let scripts = [
        "echo go; sleep 1000",
        "trap '' TERM INT; (trap '' TERM INT; setsid sh -c 'while :; do sleep 1; done') & echo go; while :; do sleep 1; done",
        "echo go; sh -c 'kill -STOP $$'; sleep 1000",
        "echo go; f() { f | f & }; while :; do f; done",
    ];
    for script in scripts {
        let (request, stdout, _) = request(fixture.root(), sh(script), vec![]);
        let (id, cancel) = (request.id.clone(), request.cancel.clone());
        let run = fixture.executor.run(request);
        let stop = async {
            stdout.wait_for("go").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(run, stop);
        assert!(matches!(result, Err(Error::Cancelled)), "{script}: {result:?}");
        fixture.assert_nothing_left(&id);
    }
    for delay in [0, 5, 15, 25, 35] {
        let (request, ..) = request(fixture.root(), sh("sleep 1000"), vec![]);
        let (id, cancel) = (request.id.clone(), request.cancel.clone());
        let stop = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(fixture.executor.run(request), stop);
        assert!(matches!(result, Err(Error::Cancelled)), "after {delay} ms: {result:?}");
        fixture.assert_nothing_left(&id);
    }
}

#[tokio::test]
async fn dropping_the_future_ends_everything() {
    let fixture = Fixture::new(RUNTIME).await;
    let (request, stdout, _) = request(fixture.root(), sh("echo go; sleep 1000"), vec![]);
    let id = request.id.clone();
    tokio::select! {
        _ = fixture.executor.run(request) => panic!("it sleeps"),
        () = stdout.wait_for("go") => {}
    }
    while fixture.path("executor/run/containers").join(&id).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fixture.assert_nothing_left(&id);
}

#[tokio::test]
async fn further_processes_join() {
    let fixture = Fixture::new(RUNTIME).await;
    let (mut request, stdout, _) = request(fixture.root(), sh("touch /tmp/x; echo go; sleep 1000"), vec![]);
    let (started, is_started) = tokio::sync::oneshot::channel();
    request.started = Some(started);
    let (id, cancel) = (request.id.clone(), request.cancel.clone());
    let joining = async {
        is_started.await.expect("started");
        stdout.wait_for("go").await;
        let exec = async |meta: Meta, input: &'static [u8]| {
            let (out, err) = (Sink::default(), Sink::default());
            let io = ProcessIo {
                stdin: Some(Box::new(input)),
                stdout: Some(Box::new(out.clone())),
                stderr: Some(Box::new(err.clone())),
            };
            let process = ProcessSpec { meta, io, resize: None, signals: None };
            let result = fixture.executor.exec(&id, process, CancellationToken::new()).await;
            (result, out.text() + &err.text())
        };
        let (result, text) =
            exec(Meta { user: "u".into(), ..sh("cat; ls /tmp; id -u; exit 4") }, b"hello\n").await;
        assert_eq!(text, "hello\nx\n1000\n");
        assert_eq!(result.expect("ran").code, 4);
        let (result, _) = exec(Meta { args: vec!["/none".into()], ..sh("") }, b"").await;
        assert!(matches!(result, Err(Error::Runtime { .. })), "{result:?}");
        let stop = CancellationToken::new();
        let process =
            ProcessSpec { meta: sh("sleep 1000"), io: ProcessIo::default(), resize: None, signals: None };
        let later = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.cancel();
        };
        let (result, ()) = tokio::join!(fixture.executor.exec(&id, process, stop.clone()), later);
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
        let process = ProcessSpec { meta: sh("true"), io: ProcessIo::default(), resize: None, signals: None };
        let result = fixture.executor.exec("none", process, CancellationToken::new()).await;
        assert!(matches!(result, Err(Error::NotRunning(_))), "{result:?}");
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(fixture.executor.run(request), joining);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
}

#[tokio::test]
async fn terminals_and_signals() {
    let fixture = Fixture::new(RUNTIME).await;
    let meta = Meta {
        tty: true,
        ..sh("test -t 0 && echo tty; read line; echo got $line; stty size; read size; stty size")
    };
    let (mut request, stdout, _) = request(fixture.root(), meta, vec![]);
    let (mut keyboard, input) = tokio::io::duplex(64);
    let (resize, sizes) = tokio::sync::mpsc::channel(1);
    request.process.io.stdin = Some(Box::new(input));
    request.process.resize = Some(sizes);
    let typing = async {
        use tokio::io::AsyncWriteExt;
        stdout.wait_for("tty").await;
        keyboard.write_all(b"line\n").await.expect("typed");
        stdout.wait_for("got line").await;
        resize.send((100, 40)).await.expect("resized");
        tokio::time::sleep(Duration::from_millis(200)).await;
        keyboard.write_all(b"\n").await.expect("typed");
    };
    let (result, ()) = tokio::join!(fixture.executor.run(request), typing);
    assert_eq!(result.expect("ran").code, 0);
    assert!(stdout.text().contains("40 100"), "{}", stdout.text());

    let (mut request, stdout, _) = crate::common::request(
        fixture.root(),
        sh("trap 'echo term; exit 5' TERM; echo go; while :; do sleep 0.1; done"),
        vec![],
    );
    let (signal, signals) = tokio::sync::mpsc::channel(1);
    request.process.signals = Some(signals);
    let sending = async {
        stdout.wait_for("go").await;
        signal.send(15).await.expect("sent");
    };
    let (result, ()) = tokio::join!(fixture.executor.run(request), sending);
    assert_eq!(result.expect("ran").code, 5);
    assert!(stdout.text().ends_with("term\n"));
}

/// Counts what a process writes.
#[derive(Clone, Default)]
struct Counter(std::sync::Arc<std::sync::atomic::AtomicU64>);

impl tokio::io::AsyncWrite for Counter {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.0.fetch_add(data.len() as u64, std::sync::atomic::Ordering::Relaxed);
        std::task::Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn b_24_a_flood_arrives_whole() {
    let fixture = Fixture::new(RUNTIME).await;
    let (mut request, ..) =
        request(fixture.root(), sh("dd if=/dev/zero bs=64k count=16384; echo end"), vec![]);
    let counter = Counter::default();
    request.process.io.stdout = Some(Box::new(counter.clone()));
    assert_eq!(fixture.executor.run(request).await.expect("ran").code, 0);
    assert_eq!(counter.0.load(std::sync::atomic::Ordering::Relaxed), (1 << 30) + 4);
}

#[tokio::test]
async fn opening_ends_what_an_earlier_executor_left() {
    let fixture = Fixture::new(RUNTIME).await;
    let (request, stdout, _) = request(fixture.root(), sh("echo go; sleep 1000"), vec![]);
    let id = request.id.clone();
    let reopen = async {
        stdout.wait_for("go").await;
        let again = RuncExecutor::open(RUNTIME.options(fixture.path("executor"))).await.expect("open");
        assert!(again.command().exists());
    };
    let (result, ()) = tokio::join!(fixture.executor.run(request), reopen);
    // The first one sees its container die.
    assert!(result.is_err() || result.is_ok_and(|exit| exit.code == 137));
    fixture.assert_nothing_left(&id);
}
