//! B-23: steps that no signal ends at once.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use buildkit_util_testutil::{Run, Running, wait_for};
use rustix::process::Signal;

use crate::sandbox::{Sandbox, base, shell};

/// The step of a build that runs: its client, and a process in it by the name of its command.
fn running(sandbox: &Sandbox, script: &str, command: &str) -> (Running, u32) {
    let mut client = sandbox.build(&shell(&base(), script)).start();
    client.wait_for_text("started-now\n");
    let pid = wait_for("the process of the step", Duration::from_secs(60), || {
        let census = sandbox.daemon.census();
        census.processes.iter().find(|(_, line)| line.starts_with(command)).map(|(pid, _)| *pid)
    });
    (client, pid)
}

#[test]
fn b_23_traced_and_stopped_processes_are_ended() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let before = sandbox.daemon.census();
    let (mut client, pid) = running(&sandbox, "echo started-now; while :; do sleep 1000; done", "/bin/sh");
    let mut tracer = Run::new("strace").args(["-q", "-p", &pid.to_string()]).start();
    tracer.wait_for_text("wait4(");
    // A stop that the tracer would have to end, and a tracer that does not.
    tracer.signal(Signal::STOP);
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(), Signal::STOP)
        .unwrap();
    client.signal(Signal::INT);
    client.wait().assert_fails();
    sandbox.assert_serves("beside the tracer");
    // What is dead and waits for its tracer belongs to that one.
    drop(tracer);
    sandbox.daemon.assert_nothing_left(&before);
    sandbox.assert_serves("after");
}

/// The cgroup of a process in the hierarchy that can freeze it, with the file and the words for that.
fn freezer(pid: u32) -> (PathBuf, &'static str) {
    let groups = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap().trim_start_matches('/'));
        if controllers.split(',').any(|controller| controller == "freezer") {
            return (PathBuf::from("/sys/fs/cgroup/freezer").join(path).join("freezer.state"), "FROZEN");
        }
        if controllers.is_empty() {
            for top in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
                let file = PathBuf::from(top).join(path).join("cgroup.freeze");
                if file.exists() && !PathBuf::from("/sys/fs/cgroup/freezer").exists() {
                    return (file, "1");
                }
            }
        }
    }
    panic!("no cgroup of {pid} can be frozen:\n{groups}");
}

#[test]
fn b_23_frozen_processes_are_ended() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let before = sandbox.daemon.census();
    let (mut client, pid) = running(&sandbox, "echo started-now; while :; do sleep 1000; done", "/bin/sh");
    let (file, word) = freezer(pid);
    fs_err::write(&file, word).unwrap();
    client.signal(Signal::INT);
    client.wait().assert_fails();
    sandbox.daemon.assert_nothing_left(&before);
    sandbox.assert_serves("after");
}

/// A file system in user space whose server takes requests and answers none but the first: who asks for
/// anything waits, and no signal ends that. It is gone, and they are free, when this is dropped.
struct DeadFileSystem {
    device: Option<fs_err::File>,
}

impl DeadFileSystem {
    /// Mounts it on a directory of the root file system that a process has.
    fn mount(pid: u32, target: &str) -> Self {
        let device =
            fs_err::OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("the FUSE device");
        let input = device.as_fd().try_clone_to_owned().unwrap();
        let status = Command::new("nsenter")
            .args(["--mount", "--target", &pid.to_string(), "/bin/busybox", "mount", "-t", "fuse"])
            .args(["-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other", "dead", target])
            .stdin(Stdio::from(input))
            .status()
            .unwrap();
        assert!(status.success(), "no FUSE mount: {status}");
        Self { device: Some(device) }
    }

    /// Takes requests until one is there that somebody waits for.
    fn until_somebody_waits(&mut self) {
        let device = self.device.as_mut().unwrap();
        let mut request = vec![0; 1 << 20];
        for asked in 0.. {
            let len = device.read(&mut request).expect("a request");
            let code = u32::from_le_bytes(request[4..8].try_into().unwrap());
            // INIT is the first one.
            if code != 26 {
                assert!(asked > 0 && len >= 40);
                return;
            }
            let mut answer = vec![0u8; 16 + 64];
            answer[..4].copy_from_slice(&80u32.to_le_bytes());
            answer[8..16].copy_from_slice(&request[8..16]);
            answer[16..20].copy_from_slice(&7u32.to_le_bytes());
            answer[20..24].copy_from_slice(&31u32.to_le_bytes());
            // Bytes of one write.
            answer[36..40].copy_from_slice(&4096u32.to_le_bytes());
            device.write_all(&answer).expect("the answer to INIT");
        }
    }
}

#[test]
fn b_23_processes_in_uninterruptible_sleep_are_given_up() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let before = sandbox.daemon.census();
    let script = "mkdir /dead; echo started-now; while :; do test -e /go && sh -c 'cat /dead/x; sleep 1000'; \
                  sleep 0.1; done";
    let (mut client, pid) = running(&sandbox, script, "/bin/sh");
    let mut dead = DeadFileSystem::mount(pid, "/dead");
    fs_err::write(format!("/proc/{pid}/root/go"), "").unwrap();
    dead.until_somebody_waits();
    client.signal(Signal::INT);
    client.wait().assert_fails();
    // The daemon is not blocked by what it cannot end, and neither is a step on the same tree.
    let stuck = |sandbox: &Sandbox| {
        let now = sandbox.daemon.census();
        now.since(&before).iter().any(|left| left.starts_with("process") && left.contains("/dead"))
    };
    let held = stuck(&sandbox);
    for n in 0..3 {
        sandbox.assert_serves(&format!("beside the dead {n}"));
    }
    // Its mounts are taken away below it.
    wait_for("mounts of a step that was given up", Duration::from_secs(60), || {
        sandbox.daemon.census().mounts.is_subset(&before.mounts).then_some(())
    });
    let held = held && stuck(&sandbox);
    assert!(held, "no process was stuck: the file system is not dead enough");
    drop(dead.device.take());
    wait_for("the end of the stuck process", Duration::from_secs(60), || (!stuck(&sandbox)).then_some(()));
    sandbox.daemon.assert_nothing_left(&before);
    sandbox.assert_serves("after");
}
