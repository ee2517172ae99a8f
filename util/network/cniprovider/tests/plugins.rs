//! Networks with plugins that these tests write. They need root.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use buildkit_util_network::{Join, Namespace, Provider as _};
use buildkit_util_network_cniprovider::{CniOptions, CniProvider, Error};
use buildkit_util_system::mount::mounts_below;
use fs_err as fs;
use tempfile::TempDir;

/// Writes down what it is told, and gives a result with its own name.
const PLUGIN: &str = r#"#!/bin/sh
here=$(dirname "$0")
name=$(basename "$0")
input=$(cat)
echo "$CNI_COMMAND $name $CNI_CONTAINERID${CNI_ARGS:+ $CNI_ARGS}${CNI_NETNS:+ ns}" >> "$here/../log"
echo "$CNI_COMMAND $name $input" >> "$here/../input"
[ -e "$here/../$CNI_COMMAND-$name" ] && . "$here/../$CNI_COMMAND-$name"
[ "$CNI_COMMAND" = ADD ] && echo "{\"by\":\"$name\"}"
exit 0
"#;

struct Fixture(TempDir);

impl Fixture {
    /// A network of the plugins `one` and `two`.
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let this = Self(tempfile::tempdir().expect("directory"));
        fs::create_dir(this.path("bin")).expect("directory");
        for name in ["one", "two"] {
            let program = this.path("bin").join(name);
            fs::write(&program, PLUGIN).expect("plugin");
            fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("mode");
        }
        this.configure("net", r#"[{"type":"one"},{"type":"two"}]"#);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn configure(&self, name: &str, plugins: &str) {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":{plugins}}}"#);
        fs::write(self.path("net.conflist"), text).expect("configuration");
    }

    /// What a plugin does beside what it always does.
    fn script(&self, verb: &str, plugin: &str, script: &str) {
        fs::write(self.path(&format!("{verb}-{plugin}")), script).expect("script");
    }

    fn options(&self) -> CniOptions {
        CniOptions::new(self.path("root"), self.path("net.conflist"), self.path("bin"))
    }

    async fn open(&self) -> CniProvider {
        CniProvider::open(self.options()).await.expect("open")
    }

    async fn fails(&self, options: CniOptions) -> String {
        let error = CniProvider::open(options).await.err().expect("it cannot be opened");
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }

    /// The calls of plugins so far, without the ids of containers.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let call = |line: &str| {
            line.split(' ')
                .enumerate()
                .filter(|(at, _)| *at != 2)
                .map(|(_, word)| word)
                .collect::<Vec<_>>()
                .join(" ")
        };
        text.lines().map(call).collect()
    }

    fn input(&self) -> String {
        fs::read_to_string(self.path("input")).unwrap_or_default()
    }

    fn namespaces(&self) -> usize {
        fs::read_dir(self.path("root/cni")).map_or(0, Iterator::count)
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert_eq!(mounts_below(self.0.path()).expect("table"), [""; 0].map(PathBuf::from));
        assert_eq!(self.namespaces(), 0);
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let ids = |verb: &str| {
            let of = text.lines().filter(|line| line.starts_with(&format!("{verb} one ")));
            let mut ids: Vec<String> =
                of.filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids("ADD"), ids("DEL"), "{text}");
    }
}

fn path(namespace: &dyn Namespace) -> PathBuf {
    match namespace.join() {
        Join::Path(path) => path,
        other => panic!("{other:?}"),
    }
}

/// What a program prints inside a namespace.
fn inside(netns: &Path, command: &[&str]) -> String {
    let mut nsenter = std::process::Command::new("nsenter");
    let output = nsenter.arg(format!("--net={}", netns.display())).args(command).output().expect("nsenter");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_chained_and_namespaces_used_again() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    assert_eq!(fixture.calls(), ["ADD one ns", "ADD two ns"], "it is tried at once");
    let first = provider.namespace("").await.expect("a network");
    let netns = path(&*first);
    let second = provider.namespace("").await.expect("a network");
    assert_ne!(path(&*second), netns);
    let own = fs::read_link("/proc/self/ns/net").expect("namespace of the test");
    let other = inside(&netns, &["readlink", "/proc/self/ns/net"]);
    assert_ne!(other.trim(), own.to_string_lossy());
    // Local addresses work: the loopback interface is up.
    assert!(inside(&netns, &["cat", "/proc/net/fib_trie"]).contains("127.0.0.1"));
    assert_eq!(fs::read_link("/proc/self/ns/net").expect("namespace of the test"), own);
    drop(first);
    let again = provider.namespace("").await.expect("a network");
    assert_eq!(path(&*again), netns);
    again.spoil();
    drop(again);
    let fresh = provider.namespace("").await.expect("a network");
    assert_ne!(path(&*fresh), netns, "what may have been changed is nobody else's");
    drop((second, fresh));
    provider.close().await;
    assert!(provider.namespace("").await.is_err());
    fixture.assert_nothing_left();
    let input = fixture.input();
    for line in [
        r#"ADD one {"cniVersion":"1.0.0","name":"net","type":"one"}"#,
        r#"ADD two {"cniVersion":"1.0.0","name":"net","prevResult":{"by":"one","cniVersion":"1.0.0"},"type":"two"}"#,
        r#"DEL one {"cniVersion":"1.0.0","name":"net","prevResult":{"by":"two","cniVersion":"1.0.0"},"type":"one"}"#,
    ] {
        assert!(input.lines().any(|found| found == line), "{line}: {input}");
    }
    let calls = fixture.calls();
    let taken: Vec<&String> = calls.iter().filter(|call| call.starts_with("DEL")).take(2).collect();
    assert_eq!(taken, ["DEL two ns", "DEL one ns"], "in reverse order");
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_are_filled() {
    let fixture = Fixture::new();
    let provider = CniProvider::open(CniOptions { pool_size: 3, ..fixture.options() }).await.expect("open");
    while fixture.calls().len() < 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // One after another is made: when the last call begins, the others are ready.
    let held = [provider.namespace("").await, provider.namespace("").await];
    assert_eq!(fixture.calls().len(), 6, "they were ready");
    drop(held);
    provider.close().await;
    fixture.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_told_and_are_no_more_than_names() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let named = provider.namespace("my-host").await.expect("a network");
    let netns = path(&*named);
    assert!(fixture.calls().contains(&"ADD one IgnoreUnknown=1;K8S_POD_NAME=my-host ns".to_owned()));
    drop(named);
    while fixture.calls().iter().filter(|call| call.starts_with("DEL")).count() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(fixture.calls().contains(&"DEL one IgnoreUnknown=1;K8S_POD_NAME=my-host ns".to_owned()));
    let again = provider.namespace("my-host").await.expect("a network");
    assert_ne!(path(&*again), netns, "it is nobody else's");
    drop(again);
    for name in ["a;IP=10.0.0.1", "a=b", "a\nb", "a\0b", &"a".repeat(254)] {
        let error = provider.namespace(name).await.err().expect(name);
        assert!(
            std::error::Error::source(&error).expect("a reason").to_string().contains("Host name"),
            "{error}"
        );
    }
    provider.close().await;
    fixture.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_does_not_work_is_no_network() {
    let fixture = Fixture::new();
    fixture.script("ADD", "two", r#"echo '{"code":11,"msg":"no more addresses"}'; exit 1"#);
    let error = fixture.fails(fixture.options()).await;
    assert_eq!(error, "CNI plugin `two` failed to ADD: no more addresses");
    assert_eq!(fixture.calls(), ["ADD one ns", "ADD two ns", "DEL two ns", "DEL one ns"]);
    fixture.assert_nothing_left();

    let error = fixture.fails(CniOptions { binary_dir: fixture.path("no"), ..fixture.options() }).await;
    assert!(error.starts_with("Failed to read the directory of CNI plugins `"), "{error}");
    fixture.configure("net", r#"[{"type":"one"},{"type":"three"}]"#);
    let error = fixture.fails(fixture.options()).await;
    assert!(error.starts_with("CNI plugin `three` failed to ADD: no such program in `"), "{error}");
    fixture.assert_nothing_left();
    fs::write(fixture.path("net.conflist"), "{").expect("configuration");
    assert!(fixture.fails(fixture.options()).await.contains("net.conflist`: EOF while parsing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_begins_to_fail_fails_steps_and_harms_nobody() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let held = provider.namespace("").await.expect("a network");
    let reason = async || {
        let error = provider.namespace("").await.err().expect("no network");
        assert_eq!(error.to_string(), "Failed to set up the network `cni`");
        std::error::Error::source(&error).expect("a reason").to_string()
    };
    fixture.script("ADD", "two", "head -c 100000000 /dev/zero");
    assert_eq!(reason().await, "CNI plugin `two` failed to ADD: it printed more than 1048576 bytes");
    fixture.script("ADD", "two", "head -c 100000000 /dev/zero | tr '\\0' x >&2; exit 1");
    assert_eq!(reason().await, format!("CNI plugin `two` failed to ADD: {}", "x".repeat(1024)));
    fixture.script("ADD", "two", "echo broken; exit 0");
    assert!(reason().await.starts_with("CNI plugin `two` failed to ADD: its result is not JSON"));
    fs::remove_file(fixture.path("bin/two")).expect("plugin");
    assert!(reason().await.contains("no such program"));
    // What cannot be taken back properly goes all the same.
    drop(held);
    provider.close().await;
    fixture.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_is_not_waited_for() {
    let fixture = Fixture::new();
    let options = CniOptions {
        add_limit: Duration::from_millis(400),
        del_limit: Duration::from_millis(400),
        ..fixture.options()
    };
    fixture.script("ADD", "one", "sleep 1000");
    let error = fixture.fails(options.clone()).await;
    assert_eq!(error, "CNI plugin `one` failed to ADD: it did not end within 0.4 seconds");
    fixture.script("ADD", "one", "");
    fixture.script("DEL", "one", "sleep 1000");
    let provider = CniProvider::open(options).await.expect("open");
    provider.close().await;
    fixture.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_what_is_being_connected() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let held = provider.namespace("").await.expect("a network");
    fixture.script("ADD", "one", "sleep 1000");
    let begun = || fixture.calls().iter().filter(|call| call.starts_with("ADD one")).count() == 2;
    let stop = async {
        while !begun() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(held);
        provider.close().await;
    };
    let (asked, ()) = tokio::join!(provider.namespace(""), stop);
    assert!(asked.is_err());
    fixture.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_is_taken_down_as_it_was_set_up() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    std::mem::forget(provider.namespace("").await.expect("a network"));
    std::mem::forget(provider.namespace("named").await.expect("a network"));
    std::mem::forget(provider);
    assert_eq!((fixture.namespaces(), mounts_below(fixture.0.path()).expect("table").len()), (2, 2));
    // One that was cut off before its record was written, one after a restart of the machine, and nonsense.
    for name in ["cut", "gone"] {
        fs::create_dir(fixture.path("root/cni").join(name)).expect("directory");
    }
    fs::write(fixture.path("root/cni/gone/ns"), "").expect("file");
    fs::write(fixture.path("root/cni/gone/record.json"), "{\"config\":").expect("file");
    fs::write(fixture.path("root/cni/stray"), "").expect("file");
    fixture.configure("other", r#"[{"type":"one"}]"#);
    let provider = fixture.open().await;
    while fixture.namespaces() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    provider.close().await;
    let text = fs::read_to_string(fixture.path("log")).expect("log");
    let count = |call: &str| fixture.calls().iter().filter(|found| *found == call).count();
    // Of the old network: both plugins, with the namespaces, the arguments and the result.
    assert_eq!(count("DEL two ns") + count("DEL two IgnoreUnknown=1;K8S_POD_NAME=named ns"), 2, "{text}");
    assert!(
        fixture.input().contains(r#"DEL one {"cniVersion":"1.0.0","name":"net","prevResult":{"by":"two""#)
    );
    // Of the new one, without a namespace.
    for id in ["cut", "gone", "stray"] {
        assert!(text.lines().any(|line| line == format!("DEL one {id}")), "{id}: {text}");
    }
    assert_eq!(mounts_below(fixture.0.path()).expect("table"), [""; 0].map(PathBuf::from));
    assert_eq!(fixture.namespaces(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_wait_for_each_other() {
    let fixture = Fixture::new();
    let lock = fixture.path("lock");
    let options = CniOptions { init_lock: Some(lock.clone()), ..fixture.options() };
    let held = fs::File::create(&lock).expect("file");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("lock");
    let release = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(fixture.calls(), [""; 0], "not before the other is ready");
        drop(held);
    };
    let (provider, ()) = tokio::join!(CniProvider::open(options), release);
    let provider = provider.map_err(|error: Error| error.to_string()).expect("open");
    rustix::fs::flock(
        fs::File::open(&lock).expect("file"),
        rustix::fs::FlockOperation::NonBlockingLockExclusive,
    )
    .expect("it is free again");
    provider.close().await;
    fixture.assert_nothing_left();
}
