//! Disks that are full.

use std::path::Path;
use std::time::Duration;

use buildkit_client_llb::{FileActions, State, copy, local, mkfile, scratch};
use buildkit_util_testutil::{DaemonOptions, Output, Run, SmallDisk, wait_for};

use crate::sandbox::{Sandbox, base, shell, to_directory, together};

const MIB: u64 = 1 << 20;

/// Until what a failed build wrote is gone.
const ROOM: Duration = Duration::from_secs(60);

/// A daemon that has built once, with a root of a few megabytes.
fn small(files: Option<u64>) -> Sandbox {
    let mut sandbox = Sandbox::with(DaemonOptions::new().disk(32 * MIB, files));
    sandbox.assert_serves("before");
    sandbox
}

#[track_caller]
fn assert_names_the_cause(output: Output) {
    let text = output.assert_fails().text();
    assert!(text.to_lowercase().contains("no space left on device"), "{text}");
}

/// Bytes that the disk has free, by the system's own count.
fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bfree * stat.f_frsize
}

/// A build that needs more room than there is.
fn context_of(sandbox: &Sandbox, files: u64, bytes: usize) -> Run {
    let context = sandbox.path("large");
    fs_err::create_dir_all(&context).unwrap();
    for file in 0..files {
        fs_err::write(context.join(file.to_string()), vec![b'x'; bytes]).unwrap();
    }
    let files = local("large").state();
    let state = scratch().file(FileActions::from(copy(&files, "/", "/").contents_only()));
    sandbox.build(&state).arg("--local").arg(format!("large={}", context.display()))
}

fn copy_of_base() -> State {
    // Another owner: nothing is shared with what is there, every byte is written.
    base().file(FileActions::from(copy(base(), "/bin/busybox", "/again")))
}

/// Whatever fills the disk: the build ends with the cause, nothing of it stays, and the next build needs no help.
#[test]
fn b_05_full_disk_fails_one_build_and_not_the_daemon() {
    let mut sandbox = small(None);
    let id = sandbox.daemon.id();
    let before = sandbox.daemon.census();
    let room = free(&sandbox.daemon.root());
    let after_each = |sandbox: &mut Sandbox, what: &str| {
        sandbox.daemon.assert_nothing_left(&before);
        // Abandoned snapshots go in the background.
        let free = || (free(&sandbox.daemon.root()) + 2 * MIB > room).then_some(());
        wait_for(&format!("room after {what}"), ROOM, free);
        sandbox.assert_serves(what);
        assert_eq!(sandbox.daemon.id(), id, "after {what}");
    };

    let step = shell(&base(), "head -c 64000000 /dev/zero > /out/large");
    assert_names_the_cause(sandbox.build(&step).run());
    after_each(&mut sandbox, "a step");

    assert_names_the_cause(context_of(&sandbox, 8, 8 * MIB as usize).run());
    after_each(&mut sandbox, "a local source");

    sandbox.daemon.disk().fill(MIB / 2);
    assert_names_the_cause(sandbox.build(&copy_of_base()).run());
    let data = vec![b'x'; 2 * MIB as usize];
    let made = scratch().file(FileActions::from(mkfile("/large", 0o644, data)));
    assert_names_the_cause(sandbox.build(&made).run());
    sandbox.daemon.disk().free();
    after_each(&mut sandbox, "file operations");
    sandbox.build(&made).run().assert_ok();
}

#[test]
fn b_05_full_disk_is_freed_by_pruning() {
    let mut sandbox = small(None);
    for n in 0.. {
        let step = shell(&base(), &format!("head -c 5000000 /dev/zero > /out/large; echo {n}"));
        let output = sandbox.build(&step).run();
        if !output.status.success() {
            assert_names_the_cause(output);
            break;
        }
        assert!(n < 10, "the disk does not fill");
    }
    sandbox.daemon.buildctl(["prune", "--all"]).run().assert_ok();
    sandbox.assert_serves("after pruning");
}

/// Not one byte is left, for the database of metadata neither: what is cached is served, what is asked is
/// answered, a start succeeds, and all is as before once there is room.
#[test]
fn b_05_metadata_survives_a_full_disk() {
    let mut sandbox = small(None);
    let steps: Vec<_> = (0..3).map(|n| shell(&base(), &format!("echo {n} > /out/{n}"))).collect();
    let all = together(&steps);
    sandbox.export(&all);
    let cached = |sandbox: &Sandbox| {
        let out = sandbox.path("cached");
        let _ = fs_err::remove_dir_all(&out);
        sandbox.build(&all).args(to_directory(&out)).run().assert_ok();
        assert_eq!(fs_err::read_to_string(out.join("2")).unwrap(), "2\n");
    };
    for restart in [false, true] {
        sandbox.daemon.disk().fill(0);
        if restart {
            sandbox.daemon.kill();
            sandbox.daemon.launch();
        }
        let mut failed = 0;
        for n in 0..10 {
            let step = shell(&base(), &format!("echo {restart} {n} > /out/f; true"));
            failed += usize::from(!sandbox.build(&step).run().status.success());
        }
        assert!(failed > 0, "the disk is not full");
        sandbox.daemon.buildctl(["du"]).run().assert_ok();
        sandbox.daemon.buildctl(["debug", "workers"]).run().assert_ok();
        sandbox.daemon.disk().free();
        cached(&sandbox);
        sandbox.assert_serves(&format!("with room, restart {restart}"));
        sandbox.daemon.restart();
        cached(&sandbox);
    }
}

#[test]
fn b_07_no_more_files_can_be_made() {
    let mut sandbox = small(Some(2000));
    let before = sandbox.daemon.census();
    let files = |sandbox: &Sandbox| rustix::fs::statvfs(sandbox.daemon.root()).unwrap().f_ffree;
    let room = files(&sandbox);
    let after_each = |sandbox: &mut Sandbox, what: &str| {
        sandbox.daemon.assert_nothing_left(&before);
        wait_for(&format!("room after {what}"), ROOM, || (files(sandbox) + 200 > room).then_some(()));
        sandbox.assert_serves(what);
    };
    let step = shell(&base(), "for n in $(seq 4000); do echo > /out/$n || exit 1; done");
    assert_names_the_cause(sandbox.build(&step).run());
    after_each(&mut sandbox, "a step");
    assert_names_the_cause(context_of(&sandbox, 4000, 1).run());
    after_each(&mut sandbox, "a local source");
}

/// The client's disk, not the daemon's.
#[test]
fn b_42_exports_to_a_full_disk_name_the_cause() {
    let mut sandbox = Sandbox::new();
    let disk = SmallDisk::mount(&sandbox.path("disk"), MIB, None);
    let large = shell(&base(), "head -c 8000000 /dev/urandom > /out/large; echo small > /out/small");
    sandbox.build(&large).run().assert_ok();
    let before = sandbox.daemon.census();
    let outputs = [
        format!("type=local,dest={}", disk.path().join("out").display()),
        format!("type=tar,dest={}", disk.path().join("out.tar").display()),
    ];
    for output in outputs {
        assert_names_the_cause(sandbox.build(&large).arg("--output").arg(&output).run());
        sandbox.daemon.assert_nothing_left(&before);
        let _ = fs_err::remove_dir_all(disk.path().join("out"));
    }
    sandbox.assert_serves("after exports");
}
