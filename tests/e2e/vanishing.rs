//! B-13: clients that vanish while they are sent something, and connections that break.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildkit_client_llb::State;
use buildkit_util_testutil::{DaemonOptions, rounds, wait_for};
use rustix::process::Signal;

use crate::sandbox::{Sandbox, base, shell, to_directory};

/// A tree that takes a while to export: many files and some large ones.
fn large() -> State {
    shell(
        &base(),
        "cd /out; for d in $(seq 20); do mkdir $d; for f in $(seq 40); do echo $d $f > $d/$f; done; done; \
         for n in 1 2 3 4; do head -c 8000000 /dev/urandom > large$n; done; echo end > end",
    )
}

fn killed_during_export(output: &str) {
    let mut sandbox = Sandbox::new();
    let state = large();
    sandbox.build(&state).run().assert_ok();
    let before = sandbox.daemon.census();
    let mut seen = 0;
    for round in 0..rounds(20) {
        let dest = sandbox.path(&format!("out-{round}"));
        let mut client =
            sandbox.build(&state).arg("--output").arg(format!("{output},dest={}", dest.display())).start();
        // Some rounds in the middle of it, some around its start.
        if round % 4 > 0 {
            wait_for("the start of the export", Duration::from_secs(60), || {
                (dest.exists() || client.ended().is_some()).then_some(())
            });
        }
        std::thread::sleep(Duration::from_millis(round * 7 % 60));
        seen += u32::from(client.ended().is_none());
        client.signal(Signal::KILL);
        client.wait();
        if round % 5 == 4 {
            sandbox.daemon.assert_nothing_left(&before);
        }
        let _ = fs_err::remove_dir_all(&dest);
        let _ = fs_err::remove_file(&dest);
    }
    assert!(seen > 0, "every export was complete before the client was killed");
    sandbox.daemon.assert_nothing_left(&before);
    // The same client comes again and gets all.
    let out = sandbox.path("out");
    let output = sandbox.build(&state).args(to_directory(&out)).run().assert_ok();
    assert!(output.text().contains("CACHED"), "{}", output.text());
    assert_eq!(fs_err::read_to_string(out.join("end")).unwrap(), "end\n");
    assert_eq!(fs_err::read_to_string(out.join("20/40")).unwrap(), "20 40\n");
    sandbox.assert_serves("after exports");
}

#[test]
fn b_13_client_vanishes_during_an_export_of_files() {
    killed_during_export("type=local");
}

#[test]
fn b_13_client_vanishes_during_an_export_of_a_tar() {
    killed_during_export("type=tar");
}

/// Something between client and daemon that can break.
struct Wire {
    address: String,
    /// Bytes after which nothing passes any more.
    limit: Arc<AtomicU64>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stop: Arc<AtomicBool>,
}

impl Wire {
    /// Breaks after so many bytes: connections are reset then, or only silent.
    fn to(daemon: &str, limit: u64, reset: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let wire = Self {
            address,
            limit: Arc::new(AtomicU64::new(limit)),
            open: Arc::default(),
            stop: Arc::default(),
        };
        let (limit, open, stop) = (wire.limit.clone(), wire.open.clone(), wire.stop.clone());
        let daemon = daemon.to_owned();
        #[expect(
            clippy::disallowed_methods,
            reason = "blocks in calls of the system; ends with its sockets"
        )]
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let client = client.unwrap();
                let server = TcpStream::connect(&daemon).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    open.lock().unwrap().push(from.try_clone().unwrap());
                    let (from, to, limit) =
                        (from.try_clone().unwrap(), to.try_clone().unwrap(), limit.clone());
                    std::thread::spawn(move || pass(from, to, &limit, reset));
                }
            }
        });
        wire
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, limit: &AtomicU64, reset: bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(len) = from.read(&mut buffer) {
        let left = limit.load(Ordering::Relaxed);
        if left < len as u64 {
            limit.store(0, Ordering::Relaxed);
            if reset {
                break;
            }
            // As a cable that was pulled: no end, no answer.
            continue;
        }
        limit.fetch_sub(len as u64, Ordering::Relaxed);
        if len == 0 || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for connection in self.open.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address.trim_start_matches("tcp://"));
    }
}

/// A free port of the loopback interface.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn b_13_connections_are_reset() {
    let port = free_port();
    let mut sandbox = Sandbox::with(DaemonOptions::new().flag("--addr").flag(format!("tcp://{port}")));
    let context = sandbox.path("context");
    fs_err::create_dir(&context).unwrap();
    for n in 0..200 {
        fs_err::write(context.join(n.to_string()), vec![b'x'; 20_000]).unwrap();
    }
    let files = buildkit_client_llb::local("context").state();
    let copied = buildkit_client_llb::scratch().file(buildkit_client_llb::FileActions::from(
        buildkit_client_llb::copy(&files, "/", "/").contents_only(),
    ));
    sandbox.build(&base()).run().assert_ok();
    let before = sandbox.daemon.census();
    for round in 0..rounds(14) {
        // From before the session is there to the end of the transfer.
        let wire = Wire::to(&port, 1 << (9 + 2 * (round % 7)), true);
        let client = sandbox
            .build(&copied)
            .env("BUILDKIT_HOST", &wire.address)
            .arg("--local")
            .arg(format!("context={}", context.display()))
            .start();
        client.wait();
        drop(wire);
    }
    sandbox.daemon.assert_nothing_left(&before);
    let out = sandbox.path("out");
    sandbox
        .build(&copied)
        .env("BUILDKIT_HOST", format!("tcp://{port}"))
        .arg("--local")
        .arg(format!("context={}", context.display()))
        .args(to_directory(&out))
        .run()
        .assert_ok();
    assert_eq!(fs_err::read(out.join("199")).unwrap().len(), 20_000);
    sandbox.assert_serves("after a broken wire");
}

#[test]
fn b_13_connections_fall_silent() {
    let port = free_port();
    let mut sandbox = Sandbox::with(DaemonOptions::new().flag("--addr").flag(format!("tcp://{port}")));
    sandbox.assert_serves("before");
    let before = sandbox.daemon.census();
    let wire = Wire::to(&port, u64::MAX, false);
    let state = shell(&base(), "echo started-silent; sleep 1000");
    let mut client = sandbox.build(&state).env("BUILDKIT_HOST", &wire.address).start();
    client.wait_for_text("started-silent\n");
    // Neither a word nor an end from here on: the client may be asleep, its session is not waited for.
    wire.limit.store(0, Ordering::Relaxed);
    sandbox.daemon.wait_for_log("session is not healthy");
    sandbox.assert_serves("beside a silent client");
    client.signal(Signal::KILL);
    client.wait();
    // With the connection goes what it began.
    drop(wire);
    sandbox.daemon.assert_nothing_left(&before);
    sandbox.assert_serves("after silence");
}
