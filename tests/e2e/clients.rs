//! Clients that leave, politely or not.

use std::time::Duration;

use buildkit_client_llb::{FileActions, copy, local, scratch};
use buildkit_util_testutil::rounds;
use rustix::process::Signal;

use crate::sandbox::{Sandbox, base, shell};

#[test]
fn b_13_client_vanishes_during_a_step() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let before = sandbox.daemon.census();
    for round in 0..rounds(20) {
        let state = shell(&base(), &format!("echo started-{round}; sleep 1000 & sleep 1000"));
        let mut client = sandbox.build(&state).start();
        client.wait_for_text(&format!("started-{round}\n"));
        client.signal(Signal::KILL);
        client.wait();
        sandbox.daemon.assert_nothing_left(&before);
    }
    sandbox.assert_serves("after");
}

#[test]
fn b_13_client_vanishes_while_it_sends_files() {
    let mut sandbox = Sandbox::new();
    let context = sandbox.path("context");
    for dir in 0..20 {
        fs_err::create_dir_all(context.join(dir.to_string())).unwrap();
        for file in 0..50 {
            fs_err::write(context.join(format!("{dir}/{file}")), vec![b'x'; 10_000]).unwrap();
        }
    }
    let files = local("context").state();
    let state = scratch().file(FileActions::from(copy(&files, "/", "/").contents_only()));
    let build = || sandbox.build(&state).arg("--local").arg(format!("context={}", context.display()));
    sandbox.build(&base()).run().assert_ok();
    let before = sandbox.daemon.census();
    for round in 0..rounds(30) {
        let mut client = build().start();
        std::thread::sleep(Duration::from_millis(13 * round % 300));
        client.signal(Signal::KILL);
        client.wait();
    }
    sandbox.daemon.assert_nothing_left(&before);
    let out = sandbox.path("out");
    build().args(crate::sandbox::to_directory(&out)).run().assert_ok();
    assert_eq!(fs_err::read(out.join("19/49")).unwrap().len(), 10_000);
    sandbox.assert_serves("after");
}

#[test]
fn an_interrupted_build_ends_with_all_its_processes() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let before = sandbox.daemon.census();
    // B-23: no signal but the last one ends these.
    let script = "trap '' INT TERM HUP; setsid sh -c \"trap '' INT TERM HUP; while :; do sleep 1; done\" & \
                  echo started-now; while :; do sleep 1; done";
    let mut client = sandbox.build(&shell(&base(), script)).start();
    client.wait_for_text("started-now\n");
    client.signal(Signal::INT);
    client.wait().assert_fails();
    sandbox.daemon.assert_nothing_left(&before);
    sandbox.assert_serves("after");
}

#[test]
fn one_of_two_clients_leaves_and_the_other_gets_its_result() {
    let sandbox = Sandbox::new();
    let flag = sandbox.path("flag");
    fs_err::create_dir(&flag).unwrap();
    // Both want the same step; it runs once.
    let state = shell(&base(), "echo started-shared; sleep 3; echo done > /out/result");
    let out = sandbox.path("out");
    let mut first = sandbox.build(&state).start();
    first.wait_for_text("started-shared\n");
    let mut second = sandbox.build(&state).args(crate::sandbox::to_directory(&out)).start();
    second.wait_for_text("started-shared\n");
    first.signal(Signal::KILL);
    first.wait();
    second.wait().assert_ok();
    assert_eq!(fs_err::read_to_string(out.join("result")).unwrap(), "done\n");
}
