//! B-36: a daemon that is asked to stop while builds run.

use rustix::process::Signal;

use crate::sandbox::{Sandbox, base, shell, to_directory};

#[test]
fn b_36_running_builds_may_finish() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let out = sandbox.path("out");
    let state = shell(&base(), "echo started-slow; sleep 3; echo done > /out/result");
    let mut client = sandbox.build(&state).args(to_directory(&out)).start();
    client.wait_for_text("started-slow\n");
    let status = sandbox.daemon.stop();
    assert!(status.success(), "{status}");
    client.wait().assert_ok();
    assert_eq!(fs_err::read_to_string(out.join("result")).unwrap(), "done\n");
    // Nothing is left, and what was built is there for the next daemon.
    let left = sandbox.daemon.census();
    assert!(left.mounts.is_empty() && left.processes.is_empty() && left.cgroups.is_empty(), "{left:?}");
    sandbox.daemon.launch();
    let output = sandbox.build(&state).run().assert_ok();
    assert!(!output.text().contains("started-slow\n"), "{}", output.text());
}

#[test]
fn b_36_no_new_builds_while_stopping() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let state = shell(&base(), "echo started-slow; sleep 4; echo done > /out/result");
    let mut client = sandbox.build(&state).start();
    client.wait_for_text("started-slow\n");
    sandbox.daemon.signal(Signal::TERM);
    sandbox.daemon.wait_for_log("stopping server");
    let late = sandbox.build(&shell(&base(), "echo late > /out/late")).run().assert_fails();
    assert!(!late.text().contains("DONE"), "{}", late.text());
    client.wait().assert_ok();
    assert!(sandbox.daemon.ended().success());
}

/// Builds that go on for ever are cancelled, sooner when asked twice, and take all that is theirs along.
#[test]
fn b_36_builds_that_do_not_finish_are_cancelled() {
    for signals in [1, 2] {
        let mut sandbox = Sandbox::new();
        sandbox.assert_serves("before");
        let clients: Vec<_> = (0..5)
            .map(|n| {
                let script = format!("trap '' TERM INT; echo started-{n}; while :; do sleep 1; done");
                let mut client = sandbox.build(&shell(&base(), &script)).start();
                client.wait_for_text(&format!("started-{n}\n"));
                client
            })
            .collect();
        for _ in 0..signals {
            sandbox.daemon.signal(Signal::TERM);
            sandbox.daemon.wait_for_log("stopping server");
        }
        let status = sandbox.daemon.ended();
        assert!(status.success(), "{signals} signals: {status}");
        for client in clients {
            client.wait().assert_fails();
        }
        let left = sandbox.daemon.census();
        assert!(left.mounts.is_empty() && left.processes.is_empty() && left.cgroups.is_empty(), "{left:?}");
        assert!(sandbox.daemon.log().contains("cancelling builds"), "{}", sandbox.daemon.log());
        sandbox.daemon.launch();
        sandbox.assert_serves("after");
    }
}
