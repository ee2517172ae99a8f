//! Addresses of the daemon.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buildkit_util_testutil::{DaemonOptions, Run, TestDaemon, binary, wait_for};

use crate::sandbox::{Sandbox, base};

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn workers(address: &str) -> Run {
    Run::new(binary("buildctl")).args(["--addr", address, "debug", "workers"])
}

#[test]
fn a_group_may_use_the_socket() {
    // `nogroup` by number and by name; 0 is what it is without.
    let lines = fs_err::read_to_string("/etc/group").unwrap();
    let (name, id) = lines
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?.to_owned(), fields.nth(1)?.parse::<u32>().ok()?))
        })
        .find(|(_, id)| *id > 0)
        .unwrap();
    for group in [id.to_string(), name] {
        let daemon = DaemonOptions::new().flag("--group").flag(&group).start();
        let meta = fs_err::metadata(daemon.socket()).unwrap();
        assert_eq!((meta.gid(), meta.mode() & 0o777), (id, 0o660), "{group}");
    }
    let daemon = TestDaemon::start();
    let output = daemon.rival().args(["--group", "no such group"]).run().assert_fails();
    assert!(output.text().contains("no such group"), "{}", output.text());
}

struct Certificates(tempfile::TempDir);

impl Certificates {
    /// An authority, and a server and a client that it has signed.
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca \
                      -keyout ca.key -out ca.pem",
        );
        fs_err::write(this.path("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost").unwrap();
        for name in ["server", "client"] {
            this.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out \
                 {name}.csr"
            ));
            this.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out \
                 {name}.pem"
            ));
        }
        this
    }

    fn openssl(&self, args: &str) {
        Run::new("openssl").dir(self.0.path()).args(args.split_whitespace()).run().assert_ok();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn flag(&self, flag: &str, name: &str) -> String {
        format!("{flag}={}", self.path(name).display())
    }
}

#[test]
fn tcp_with_and_without_tls() {
    let port = free_port();
    let plain = format!("tcp://{port}");
    let mut sandbox = Sandbox::with(DaemonOptions::new().flag("--addr").flag(&plain));
    workers(&plain).run().assert_ok();
    sandbox.build(&base()).env("BUILDKIT_HOST", &plain).run().assert_ok();
    assert!(sandbox.daemon.log().contains("TLS is not enabled"), "{}", sandbox.daemon.log());
    sandbox.assert_serves("beside tcp");
    drop(sandbox);

    let certificates = Certificates::new();
    for mutual in [false, true] {
        let port = free_port();
        let address = format!("tcp://{port}");
        let mut options = DaemonOptions::new()
            .flag("--addr")
            .flag(&address)
            .flag(certificates.flag("--tlscert", "server.pem"))
            .flag(certificates.flag("--tlskey", "server.key"));
        if mutual {
            options = options.flag(certificates.flag("--tlscacert", "ca.pem"));
        }
        let daemon = options.start();
        let ca = certificates.flag("--tlscacert", "ca.pem");
        let as_client = [
            certificates.flag("--tlscert", "client.pem"),
            certificates.flag("--tlskey", "client.key"),
            ca.clone(),
        ];
        let run = |flags: &[String]| {
            Run::new(binary("buildctl"))
                .args(["--addr", &address])
                .args(flags)
                .args(["debug", "workers"])
                .run()
        };
        run(&as_client).assert_ok();
        // Without a certificate of its own a client gets in only where none is asked for.
        let anonymous = run(std::slice::from_ref(&ca));
        if mutual {
            drop(anonymous.assert_fails())
        } else {
            drop(anonymous.assert_ok())
        };
        // Nobody speaks in the clear with it, and a client does not trust another authority.
        run(&[]).assert_fails();
        let stranger = Certificates::new();
        run(&[stranger.flag("--tlscacert", "ca.pem")]).assert_fails();
        if mutual {
            let strange = ["--tlscert", "--tlskey"].map(|flag| {
                stranger.flag(flag, if flag == "--tlskey" { "client.key" } else { "client.pem" })
            });
            run(&[strange[0].clone(), strange[1].clone(), ca.clone()]).assert_fails();
        }
        run(&as_client).assert_ok();
        assert!(!daemon.log().contains("TLS is not enabled"));
    }
}

/// A daemon with a socket that this test has bound, as a service manager starts it.
struct Activated {
    child: Child,
    dir: tempfile::TempDir,
}

impl Activated {
    fn start(socket: impl Into<OwnedFd>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
        let child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(binary("buildkitd"))
            .args(["--addr", "fd://", "--containerd-worker=false", "--root"])
            .arg(dir.path().join("root"))
            .stdin(Stdio::from(socket.into()))
            .stderr(fs_err::File::create(dir.path().join("log")).unwrap().into_file())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn log(&self) -> String {
        fs_err::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        // Killed, it would leave its file systems mounted.
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

#[test]
fn sockets_are_inherited() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", tcp.local_addr().unwrap());
    let activated = Activated::start(tcp);
    let answers = |activated: &Activated, address: &str| {
        wait_for("an answer of a daemon with an inherited socket", Duration::from_secs(60), || {
            let output = workers(address).run();
            assert!(!activated.log().contains("buildkitd: "), "{}", activated.log());
            output.status.success().then_some(())
        });
    };
    answers(&activated, &address);
    drop(activated);

    let dir = tempfile::tempdir().unwrap();
    let path: &Path = &dir.path().join("socket");
    let mut activated = Activated::start(UnixListener::bind(path).unwrap());
    answers(&activated, &format!("unix://{}", path.display()));
    let pid = rustix::process::Pid::from_child(&activated.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(activated.child.wait().unwrap().success());
    // It belongs to the one who made it.
    assert!(path.exists());
}
