//! Groups that are made on this host. Needs root and control groups.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use buildkit_executor_resources::{
    Access, Cgroup, DeviceKind, DeviceRule, Hierarchies, Limits, OpenCgroup, default_device_rules,
};
use fs_err as fs;
use rustix::fs::{FileType, Mode};
use rustix::process::Pid;

/// A name for groups, which are removed at the end, with those of the same name in `above`.
struct Fixture {
    hierarchies: Hierarchies,
    above: String,
    group: Cgroup,
}

impl Fixture {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        Self::of(Hierarchies::detect().expect("mount table"))
    }

    fn of(hierarchies: Hierarchies) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(!hierarchies.all.is_empty(), "this test needs control groups");
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let above = format!("/buildkit-test-make-{}-{next}", std::process::id());
        let group = Cgroup::new(&hierarchies, &format!("{above}/below/one"));
        Self { hierarchies, above, group }
    }

    /// As it would be on a host with nothing else.
    fn unified_alone() -> Option<Self> {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let mut hierarchies = Hierarchies::detect().expect("mount table");
        hierarchies.all.retain(|hierarchy| hierarchy.unified);
        (!hierarchies.all.is_empty()).then(|| Self::of(hierarchies))
    }

    fn directory(&self, controller: &str) -> Option<PathBuf> {
        let hierarchy = self.hierarchies.of(controller)?;
        Some(hierarchy.mount_point.join(self.above.trim_start_matches('/')).join("below/one"))
    }

    fn value(&self, controller: &str, file: &str) -> Option<String> {
        let path = self.directory(controller)?.join(file);
        Some(fs::read_to_string(path).expect("limit").trim().to_owned())
    }

    fn nothing_is_left(&self) -> bool {
        !Cgroup::new(&self.hierarchies, &self.above).exists()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let above = Cgroup::new(&self.hierarchies, &self.above);
        above.kill();
        let _ = above.remove();
    }
}

fn standard() -> Vec<DeviceRule> {
    let mut rules = vec![DeviceRule::all(false)];
    rules.extend(default_device_rules());
    rules
}

/// A shell that waits for its input to end.
struct Waiting(Child);

impl Waiting {
    fn new(script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("read go; {script}")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.stderr(Stdio::piped()).spawn().expect("spawn"))
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn finish(mut self) -> (bool, String) {
        // One that was killed does not read.
        let _ = self.0.stdin.take().expect("stdin").write_all(b"go\n");
        let output = self.0.wait_with_output().expect("wait");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Nodes of devices of the host, as a container could make them: the log of the kernel, and a block
/// device where there is one without harm. (Disks may be out of reach for the test as well.)
fn nodes(directory: &Path) -> Vec<PathBuf> {
    let node = |name: &str, kind, major, minor| {
        let path = directory.join(name);
        let numbers = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, Mode::RUSR | Mode::WUSR, numbers).expect("node");
        path
    };
    let mut nodes = vec![node("log", FileType::CharacterDevice, 1, 11)];
    if Path::new("/dev/loop7").exists() {
        nodes.push(node("loop", FileType::BlockDevice, 7, 7));
    }
    nodes
}

/// Opens a node and does nothing with it.
fn open(mode: &str, node: &Path, group: Option<&OpenCgroup>) -> (bool, String) {
    let process = Waiting::new(&format!(": {mode} {}", node.display()));
    if let Some(group) = group {
        group.join(process.id(), true).expect("join");
    }
    process.finish()
}

fn is_refused((worked, said): (bool, String)) -> bool {
    !worked && said.contains("Operation not permitted")
}

/// Tries devices of the host and the usual ones in a group with the standard rules.
fn devices_are_restricted(opened: &OpenCgroup) {
    let directory = tempfile::tempdir().expect("directory");
    for node in nodes(directory.path()) {
        for mode in ["<", ">", "<>"] {
            let outside = open(mode, &node, None);
            assert!(outside.0, "{}", outside.1);
            assert!(is_refused(open(mode, &node, Some(opened))), "{mode} {}", node.display());
        }
    }
    let node = directory.path().join("made");
    let usual = format!(
        "set -e; mknod {0}-null c 1 3; echo > {0}-null; head -c 1 /dev/zero /dev/urandom > /dev/null; \
         mknod {0}-log c 1 11; if true < {0}-log; then exit 1; fi",
        node.display()
    );
    let inside = Waiting::new(&usual);
    opened.join(inside.id(), true).expect("join");
    let (worked, said) = inside.finish();
    assert!(worked && said.contains("Operation not permitted"), "{said}");
}

#[test]
fn limits_are_set() {
    let fixture = Fixture::new();
    let limits = Limits {
        memory: Some(64 << 20),
        memory_swap: Some(128 << 20),
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(200_000),
        cpuset_cpus: Some("0".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        pids: Some(77),
    };
    fixture.group.create(&limits, &[]).expect("create");
    let expected = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "200000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "77"),
    ];
    for (controller, file, expected) in expected {
        let value = fixture.value(controller, file);
        assert!(value.is_none_or(|value| value == expected), "{file}");
    }
    // Replaced: limits of before are gone.
    let limits = Limits { memory: Some(-1), pids: Some(-1), cpu_quota: Some(-1), ..Limits::default() };
    fixture.group.create(&limits, &[]).expect("create");
    assert!(fixture.value("pids", "pids.max").is_none_or(|value| value == "max"));
    assert!(fixture.value("cpu", "cpu.shares").is_none_or(|value| value == "1024"));
    let unlimited = |value: String| value.parse::<u64>().expect("number") > 1 << 60;
    for file in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] {
        assert!(fixture.value("memory", file).is_none_or(unlimited), "{file}");
    }
    // All processors, from the root through two new groups.
    let root = fixture.hierarchies.of("cpuset").map(|hierarchy| hierarchy.mount_point.join("cpuset.cpus"));
    let all = root.map(|path| fs::read_to_string(path).expect("processors").trim().to_owned());
    assert_eq!(fixture.value("cpuset", "cpuset.cpus"), all);
    fixture.group.remove().expect("remove");
    assert!(!fixture.group.exists());
}

#[test]
fn swap_without_a_limit() {
    let fixture = Fixture::new();
    let limits = Limits { memory: Some(64 << 20), memory_swap: Some(-1), ..Limits::default() };
    fixture.group.create(&limits, &[]).expect("create");
    assert!(fixture.value("memory", "memory.limit_in_bytes").is_none_or(|value| value == "67108864"));
}

#[test]
fn processes_enter_everywhere() {
    let fixture = Fixture::new();
    let opened = fixture.group.create(&Limits::default(), &[]).expect("create");
    let inside = Waiting::new("cat /proc/self/cgroup >&2");
    opened.join(inside.id(), true).expect("join");
    assert_eq!(fixture.group.processes(), [inside.id()]);
    assert!(fixture.group.create(&Limits::default(), &[]).is_err(), "never one in use");
    assert!(fixture.group.exists());
    let (_, said) = inside.finish();
    let name = format!("{}/below/one", fixture.above);
    let there = said.lines().filter(|line| line.ends_with(&name)).count();
    assert_eq!(there, fixture.hierarchies.all.len(), "{said}");

    // A thread by itself, and through a group that is opened again.
    let opened = fixture.group.open().expect("open");
    let said = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            opened.join_self().expect("join");
            fs::read_to_string("/proc/thread-self/cgroup").expect("groups")
        });
        thread.join().expect("thread")
    });
    let there = said.lines().filter(|line| line.ends_with(&name)).count();
    assert_eq!(
        there,
        fixture.hierarchies.all.iter().filter(|hierarchy| !hierarchy.unified).count(),
        "{said}"
    );
    fixture.group.remove().expect("remove");
    assert_eq!(fixture.group.open().map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
}

#[test]
fn devices_of_the_host_are_out_of_reach() {
    let fixture = Fixture::new();
    let opened = fixture.group.create(&Limits::default(), &standard()).expect("create");
    devices_are_restricted(&opened);
    if let Some(list) = fixture.value("devices", "devices.list") {
        let mut list: Vec<_> = list.lines().collect();
        list.sort_unstable();
        let expected = [
            "b *:* m",
            "c *:* m",
            "c 10:200 rwm",
            "c 136:* rwm",
            "c 1:3 rwm",
            "c 1:5 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm",
            "c 5:0 rwm",
            "c 5:2 rwm",
        ];
        assert_eq!(list, expected);
    }
}

#[test]
fn devices_of_the_host_are_out_of_reach_with_version_2_alone() {
    let Some(fixture) = Fixture::unified_alone() else { return };
    let opened = fixture.group.create(&Limits::default(), &standard()).expect("create");
    assert!(opened.unified_fd().is_some());
    devices_are_restricted(&opened);
}

#[test]
fn allowed_devices_are_in_reach() {
    for fixture in [Some(Fixture::new()), Fixture::unified_alone()].into_iter().flatten() {
        let directory = tempfile::tempdir().expect("directory");
        for node in nodes(directory.path()) {
            let kind = match node.ends_with("log") {
                true => DeviceKind::Char,
                false => DeviceKind::Block,
            };
            let write = DeviceRule { kind: Some(kind), access: Access::WRITE, ..DeviceRule::all(false) };
            let rules = [DeviceRule::all(true), write];
            let opened = fixture.group.create(&Limits::default(), &rules).expect("create");
            let reading = open("<", &node, Some(&opened));
            assert!(reading.0, "{}", reading.1);
            for mode in [">", "<>"] {
                assert!(is_refused(open(mode, &node, Some(&opened))), "{mode} {}", node.display());
            }
        }
    }
}

#[test]
fn nothing_is_left_of_a_group_that_could_not_be_made() {
    let fixture = Fixture::new();
    let refused = [
        Limits { memory: Some(-5), ..Limits::default() },
        Limits { memory: Some(64 << 20), memory_swap: Some(32 << 20), ..Limits::default() },
        Limits { cpu_shares: Some(1), ..Limits::default() },
        Limits { cpu_shares: Some(u64::MAX), ..Limits::default() },
        Limits { cpu_period: Some(1), ..Limits::default() },
        Limits { cpu_quota: Some(1), ..Limits::default() },
        Limits { cpuset_cpus: Some("100000".to_owned()), ..Limits::default() },
        Limits { cpuset_mems: Some("x".to_owned()), ..Limits::default() },
        Limits { pids: Some(i64::MAX), ..Limits::default() },
    ];
    for limits in refused {
        let error = fixture.group.create(&limits, &standard()).map(|_| ()).expect_err("refused");
        assert!(fixture.nothing_is_left(), "{limits:?}");
        println!("{error}");
    }
    let hole =
        DeviceRule { kind: Some(DeviceKind::Char), minor: Some(3), major: Some(1), ..DeviceRule::all(false) };
    let all = DeviceRule { kind: Some(DeviceKind::Char), ..DeviceRule::all(true) };
    let error = fixture.group.create(&Limits::default(), &[all, hole]).map(|_| ()).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(fixture.nothing_is_left());
}

#[test]
fn hosts_without_a_controller_refuse_only_what_needs_it() {
    let limits = Limits { memory: Some(64 << 20), ..Limits::default() };
    let fixture = Fixture::new();
    let mut hierarchies = fixture.hierarchies.clone();
    hierarchies.all.retain(|hierarchy| hierarchy.controllers == ["pids"]);
    if !hierarchies.all.is_empty() {
        let fixture = Fixture::of(hierarchies);
        let error = fixture.group.create(&limits, &[]).map(|_| ()).expect_err("no memory controller");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let error =
            fixture.group.create(&Limits::default(), &standard()).map(|_| ()).expect_err("no devices");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(fixture.nothing_is_left());
        fixture.group.create(&Limits { pids: Some(5), ..Limits::default() }, &[]).expect("create");
    }
    let Some(fixture) = Fixture::unified_alone() else { return };
    let root = &fixture.hierarchies.all[0].mount_point;
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).expect("controllers");
    if !controllers.contains("memory") {
        let error = fixture.group.create(&limits, &[]).map(|_| ()).expect_err("no memory controller");
        assert!(error.to_string().contains("memory.max"), "{error}");
        assert!(fixture.nothing_is_left());
    }
}

#[test]
fn empty_groups_are_removed_without_looking() {
    let fixture = Fixture::new();
    assert!(fixture.group.remove_if_empty(), "there is none");
    let opened = fixture.group.create(&Limits::default(), &[]).expect("create");
    let inside = Waiting::new("sleep 1000");
    opened.join(inside.id(), true).expect("join");
    assert!(!fixture.group.remove_if_empty());
    assert_eq!(fixture.group.processes(), [inside.id()]);
    assert!(fixture.group.kill());
    assert!(!inside.finish().0);
    // Moved out of one hierarchy by hand: still seen and killed.
    let opened = fixture.group.create(&Limits::default(), &[]).expect("create");
    let inside = Waiting::new("sleep 1000");
    opened.join(inside.id(), true).expect("join");
    let root = fixture.hierarchies.all[0].mount_point.join("cgroup.procs");
    fs::write(root, inside.id().as_raw_nonzero().to_string()).expect("move");
    assert_eq!(fixture.group.remove_if_empty(), fixture.hierarchies.all.len() == 1);
    if fixture.hierarchies.all.len() > 1 {
        assert!(fixture.group.kill());
    }
    assert!(!inside.finish().0);
    assert!(fixture.group.remove_if_empty());
    assert!(!fixture.group.exists());
}

#[test]
fn names_that_are_files_of_the_kernel() {
    let fixture = Fixture::new();
    for name in ["cgroup.procs", "cgroup.procs/x", "a\nb", "a\0b", &"n".repeat(5000)] {
        let group = Cgroup::new(&fixture.hierarchies, name);
        assert!(group.create(&Limits::default(), &[]).is_err(), "{name:?}");
    }
}

#[test]
fn groups_are_made_at_once() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let group = Cgroup::new(&fixture.hierarchies, &format!("{}/at/once/{number}", fixture.above));
            scope.spawn(move || {
                for _ in 0..5 {
                    let opened = group.create(&Limits { pids: Some(9), ..Limits::default() }, &standard());
                    opened.expect("create");
                    // Fails in the middle, and takes away what it thinks is its own.
                    let bad = Limits { pids: Some(i64::MAX), ..Limits::default() };
                    group.create(&bad, &[]).map(|_| ()).expect_err("refused");
                }
            });
        }
    });
}
