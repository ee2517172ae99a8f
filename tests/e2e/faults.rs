//! Faults: kills, floods.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buildkit_cache_metadata::{SledOptions, SledStore};
use buildkit_client_llb::State;
use buildkit_solver::CacheKeyStore as _;
use buildkit_solver_sledcachestorage::{PersistentKeyStore, PersistentKeyStoreOptions};
use buildkit_util_testutil::rounds;

use crate::sandbox::{Sandbox, base, shell, to_directory, together};

/// Three steps of one cycle, each of which says when it runs.
fn graph(cycle: u64) -> State {
    let step = |n| {
        format!(
            "echo ran-{cycle}-{n}; echo {cycle} {n} > /out/{n}; mkdir /out/d{n}; cp /bin/busybox /out/d{n}/"
        )
    };
    together(&[0, 1, 2].map(|n| shell(&base(), &step(n))))
}

/// Builds the steps of a cycle and looks at all that came of it; says how many steps had to run.
fn rebuild(sandbox: &Sandbox, cycle: u64, busybox: &[u8]) -> u64 {
    let out = sandbox.path("out");
    let _ = fs_err::remove_dir_all(&out);
    let output = sandbox.build(&graph(cycle)).args(to_directory(&out)).run().assert_ok();
    for n in 0..3 {
        let text = fs_err::read_to_string(out.join(n.to_string())).unwrap();
        assert_eq!(text, format!("{cycle} {n}\n"));
        let copy = fs_err::read(out.join(format!("d{n}/busybox"))).unwrap();
        assert!(copy == busybox, "cycle {cycle}: damaged file");
    }
    let text = output.text();
    (0..3).filter(|n| text.contains(&format!("ran-{cycle}-{n}\n"))).count() as u64
}

/// After every kill what was built before is right; what was complete two seconds before it is a hit.
#[test]
fn b_01_daemon_is_killed_at_any_time() {
    let mut sandbox = Sandbox::new();
    let busybox = fs_err::read(sandbox.path("rootfs/bin/busybox")).unwrap();
    let nothing = sandbox.daemon.census();
    let seed = std::process::id();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    let mut complete: Vec<(u64, Instant)> = Vec::new();
    let (mut wanted, mut ran) = (0, 0);
    for cycle in 0..rounds(100) {
        // xorshift
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut client = sandbox.build(&graph(cycle)).args(to_directory(&sandbox.path("killed"))).start();
        let end = Instant::now() + Duration::from_millis(random % 600);
        while Instant::now() < end {
            if client.ended().is_some_and(|status| status.success()) {
                complete.push((cycle, Instant::now()));
                std::thread::sleep(end.saturating_duration_since(Instant::now()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        sandbox.daemon.kill();
        let killed = Instant::now();
        client.wait();
        sandbox.daemon.launch();
        // The last one that has to be there, and, less often, the one that the kill met.
        let durable = complete.iter().rev().find(|(_, at)| *at + Duration::from_secs(2) < killed);
        if let Some((old, _)) = durable {
            wanted += 3;
            ran += rebuild(&sandbox, *old, &busybox);
        }
        if cycle % 5 == 4 {
            sandbox.daemon.assert_nothing_left(&nothing);
            rebuild(&sandbox, cycle, &busybox);
            sandbox.daemon.buildctl(["du"]).run().assert_ok();
        }
    }
    println!("{} builds were complete; {ran} of {wanted} steps ran again", complete.len());
    assert!(wanted > 0, "no build was ever complete");
    assert!(ran * 20 <= wanted, "seed {seed}: {ran} of {wanted} steps of 2 s before the kill were lost");
    sandbox.daemon.buildctl(["prune", "--all"]).run().assert_ok();
    sandbox.assert_serves("after all");
}

#[test]
fn pruned_results_leave_no_cache_keys() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    sandbox.daemon.stop();
    assert_ne!(results_with_keys(&sandbox), 0);
    sandbox.daemon.launch();
    sandbox.daemon.buildctl(["prune", "--all"]).run().assert_ok();
    sandbox.daemon.stop();
    assert_eq!(results_with_keys(&sandbox), 0, "after a prune");
    sandbox.daemon.launch();
    sandbox.assert_serves("before");
}

/// Number of results that the stopped daemon keeps keys of.
fn results_with_keys(sandbox: &Sandbox) -> usize {
    let mut roots = fs_err::read_dir(sandbox.daemon.root()).unwrap();
    let metadata = roots.find_map(|entry| {
        let path = entry.unwrap().path().join("metadata");
        path.is_dir().then_some(path)
    });
    let database = SledStore::open(metadata.expect("a database"), SledOptions::default()).unwrap();
    let keys = PersistentKeyStore::open(Arc::new(database), PersistentKeyStoreOptions::default()).unwrap();
    keys.results().unwrap().len()
}

#[test]
fn b_24_log_flood_neither_fills_memory_nor_loses_the_end() {
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
