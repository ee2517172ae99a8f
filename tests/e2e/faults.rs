//! Faults: kills, floods.

use std::time::Duration;

use crate::sandbox::{Sandbox, base, shell, to_directory, together};

/// How often; `make soak` asks for more.
fn cycles(usual: u64) -> u64 {
    if std::env::var_os("BUILDKIT_TEST_SOAK").is_some() { usual * 20 } else { usual }
}

#[test]
fn b01_daemon_is_killed_at_any_time() {
    let mut sandbox = Sandbox::new();
    let nothing = sandbox.daemon.census();
    let seed = std::process::id();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    for cycle in 0..cycles(100) {
        // xorshift
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let steps: Vec<_> = (0..3)
            .map(|n| {
                shell(
                    &base(),
                    &format!("echo {cycle} {n} > /out/{n}; mkdir /out/d{n}; cp /bin/busybox /out/d{n}/"),
                )
            })
            .collect();
        let all = together(&steps);
        let client = sandbox.build(&all).args(to_directory(&sandbox.path("killed"))).start();
        std::thread::sleep(Duration::from_millis(random % 400));
        sandbox.daemon.kill();
        client.wait();
        sandbox.daemon.launch();
        if cycle % 10 != 9 {
            continue;
        }
        sandbox.daemon.assert_nothing_left(&nothing);
        let out = sandbox.path("out");
        let _ = fs_err::remove_dir_all(&out);
        sandbox.build(&all).args(to_directory(&out)).run().assert_ok();
        for n in 0..3 {
            assert_eq!(
                fs_err::read_to_string(out.join(n.to_string())).unwrap(),
                format!("{cycle} {n}\n"),
                "seed {seed}"
            );
            let copy = fs_err::read(out.join(format!("d{n}/busybox"))).unwrap();
            assert!(
                copy == fs_err::read(sandbox.path("rootfs/bin/busybox")).unwrap(),
                "seed {seed}: damaged file"
            );
        }
        sandbox.daemon.buildctl(["du"]).run().assert_ok();
    }
    sandbox.daemon.buildctl(["prune", "--all"]).run().assert_ok();
    sandbox.assert_serves("after all");
}

#[test]
fn b24_log_flood_neither_fills_memory_nor_loses_the_end() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let before = resident(sandbox.daemon.id());
    let script = "yes 0123456789012345678901234567890123456789 | head -c 200000000; echo; echo the-very-end";
    let output = sandbox.build(&shell(&base(), script)).run().assert_ok();
    assert!(output.text().contains("the-very-end\n"), "the end of the log is lost");
    let after = resident(sandbox.daemon.id());
    assert!(after < before + (64 << 10), "{before} KiB before, {after} KiB after");
    sandbox.assert_serves("after");
}

/// Resident memory in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
