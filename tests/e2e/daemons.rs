//! One daemon, its files and its environment.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use buildkit_util_testutil::{DaemonOptions, TestDaemon};

use crate::sandbox::Sandbox;

#[test]
fn b_38_two_daemons_do_not_share_a_root() {
    let mut sandbox = Sandbox::new();
    let output = sandbox.daemon.rival().run().assert_fails();
    assert!(output.text().contains("lock"), "{}", output.text());
    sandbox.assert_serves("with a rival gone");
    // The lock of one that was killed stops nobody.
    sandbox.daemon.kill();
    sandbox.daemon.launch();
    sandbox.assert_serves("after a kill");
}

#[test]
fn a2_30_state_is_for_root_alone() {
    let mut daemon = TestDaemon::start();
    let mode = |path: &std::path::Path| fs_err::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&daemon.root()), mode(&daemon.socket())), (0o700, 0o660));
    daemon.stop();
    fs_err::set_permissions(daemon.root(), PermissionsExt::from_mode(0o755)).unwrap();
    daemon.launch();
    assert_eq!(mode(&daemon.root()), 0o700, "at every start");
}

#[test]
fn a2_24_environment_of_the_daemon_stays_there() {
    let mut options = DaemonOptions::new();
    for n in 0..20 {
        options = options.env(format!("CANARY_{n}"), format!("canary-value-{n}"));
    }
    let sandbox = Sandbox::with(options);
    let env = sandbox.script("env > /out/result; cat /proc/1/environ >> /out/result");
    assert!(!env.to_lowercase().contains("canary"), "{env}");
}

#[test]
fn a_stop_is_clean_and_waits_for_nothing() {
    let mut daemon = TestDaemon::start();
    assert!(daemon.stop().success());
    let left = daemon.census();
    assert!(left.mounts.is_empty() && left.processes.is_empty() && left.cgroups.is_empty(), "{left:?}");
}

#[test]
fn unknown_keys_and_flags_are_named() {
    let daemon = DaemonOptions::new().config("no-such-key = true").start();
    assert!(daemon.log().contains("no-such-key"), "{}", daemon.log());
    let output = daemon.rival().arg("--no-such-flag").run().assert_fails();
    assert!(output.text().contains("no-such-flag"), "{}", output.text());
}
