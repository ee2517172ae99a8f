//! The program with bundles of all kinds. Needs root and busybox-static.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

static NEXT: AtomicU64 = AtomicU64::new(0);

struct Bundle {
    directory: tempfile::TempDir,
    id: String,
    config: Value,
}

impl Bundle {
    fn new(script: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let directory = tempfile::tempdir().expect("directory");
        let root = directory.path().join("rootfs");
        for name in ["bin", "tmp", "etc"] {
            std::fs::create_dir_all(root.join(name)).expect("directory");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for name in ["sh", "cat", "ls", "sleep", "echo", "head", "mount", "touch", "grep", "readlink", "kill"]
        {
            symlink("busybox", root.join("bin").join(name)).expect("link");
        }
        let id = format!("bundle{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mount = |to: &str, kind: &str, options: Value| json!({ "destination": to, "type": kind, "source": kind, "options": options });
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"],
                "args": ["/bin/sh", "-c", script],
            },
            "root": { "path": "rootfs" },
            "mounts": [
                mount("/proc", "proc", json!([])),
                mount("/dev", "tmpfs", json!(["mode=755"])),
                mount("/sys", "sysfs", json!(["ro"])),
            ],
            "linux": {
                "cgroupsPath": format!("/buildkit-test/{id}"),
                "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "network" }, { "type": "ipc" }],
                "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
                "maskedPaths": ["/proc/keys", "/sys/firmware", "/proc/not/there"],
                "readonlyPaths": ["/proc/sys"],
            },
        });
        Self { directory, id, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a value at a place such as `/linux/seccomp`.
    fn with(mut self, place: &str, value: Value) -> Self {
        let (parent, name) = place.rsplit_once('/').expect("a place");
        match self.config.pointer_mut(parent).expect("there") {
            Value::Array(list) => list[name.parse::<usize>().expect("number")] = value,
            parent => parent[name] = value,
        }
        self
    }

    fn command(&self) -> Command {
        std::fs::write(self.path("config.json"), self.config.to_string()).expect("configuration");
        let mut command = Command::new(buildkit_util_testutil::binary("buildkit-runc"));
        command.arg("--root").arg(self.path("state")).arg("--log").arg(self.path("log"));
        command.args(["--log-format", "json", "run", "--bundle"]).arg(self.directory.path());
        command.arg("--pid-file").arg(self.path("pid")).stdin(std::process::Stdio::null());
        command
    }

    fn run(&self) -> Output {
        let _ = std::fs::remove_file(self.path("pid"));
        let output = self.command().arg(&self.id).output().expect("started");
        self.assert_nothing_left();
        output
    }

    fn assert_nothing_left(&self) {
        assert!(!self.path("state").join(&self.id).exists(), "state is left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(self.directory.path().to_str().expect("text")), "a mount is left");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            let group = hierarchy.path().join("buildkit-test").join(&self.id);
            assert!(!group.exists(), "{} is left", group.display());
        }
    }

    /// What it prints, after it has ended well.
    fn prints(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Why it does not start, as the error stream and the log say.
    fn fails(&self) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!self.path("pid").exists());
        let text = String::from_utf8(output.stderr).expect("text").trim_end().to_owned();
        let log = std::fs::read_to_string(self.path("log")).expect("log");
        let line: Value = serde_json::from_str(log.lines().next_back().expect("a line")).expect("JSON");
        assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("error"), Some(text.as_str())));
        text
    }
}

#[test]
fn statuses_are_those_of_the_process() {
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("sh -c 'kill -9 $$'; exit $?", 137)] {
        let bundle = Bundle::new(script);
        assert_eq!(bundle.run().status.code(), Some(status), "{script}");
        assert!(bundle.path("pid").exists());
    }
}

#[test]
fn a2_07_what_is_not_known_is_refused() {
    for (place, value, names) in [
        ("/hooks", json!({ "prestart": [] }), "hooks"),
        ("/linux/uidMappings", json!([]), "uidMappings"),
        ("/linux/sysctl", json!({}), "sysctl"),
        ("/linux/rootfsPropagation", json!("shared"), "rootfsPropagation"),
        ("/process/selinuxLabel", json!("x"), "selinuxLabel"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "user" }]), "user"),
        ("/linux/namespaces", json!([{ "type": "pid" }]), "mount namespace"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "mount" }]), "twice"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "ipc", "path": "/x" }]), "Ipc"),
        ("/linux/namespaces", json!([{ "type": "mount", "path": "/proc/self/ns/mnt" }]), "mount namespace"),
        ("/linux/resources/hugepageLimits", json!([]), "hugepageLimits"),
        ("/linux/resources/devices", json!([{ "allow": true, "type": "x" }]), "device rule"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "SCMP_ACT_NOTIFY"),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x" }),
            "listenerPath",
        ),
        ("/linux/cgroupsPath", json!("/"), "control group"),
        ("/linux/cgroupsPath", json!("/a/../.."), "control group"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "q" }]), "kind of device"),
        ("/hostname", json!("h"), "UTS"),
        ("/process/cwd", json!("tmp"), "absolute"),
        ("/process/args", json!([]), "no arguments"),
        ("/process/args", json!(["/bin/sh\u{0}x"]), "zero byte"),
        ("/process/rlimits", json!([{ "type": "RLIMIT_X", "hard": 1, "soft": 1 }]), "RLIMIT_X"),
        ("/mounts/0/destination", json!("proc"), "absolute"),
        ("/mounts/0/type", json!("nosuchfs"), "nosuchfs"),
        ("/mounts/1/options", json!(["nosuchoption"]), "nosuchoption"),
        ("/root/path", json!("none"), "none"),
    ] {
        let error = Bundle::new("echo started").with(place, value).fails();
        assert!(error.contains(names) && error.lines().count() == 1, "{place}: {error}");
    }
}

#[test]
fn words_for_programs_that_do_not_start() {
    let program = |name: &str| Bundle::new("").with("/process/args", json!([name])).fails();
    let prefix = "run failed: unable to start container process: exec: ";
    assert_eq!(program("/none"), format!("{prefix}\"/none\": stat /none: no such file or directory"));
    assert_eq!(program("none"), format!("{prefix}\"none\": executable file not found in $PATH"));
    assert_eq!(program("/tmp"), format!("{prefix}\"/tmp\": is a directory"));
    let bundle = Bundle::new("").with("/process/args", json!(["/tmp/text"]));
    std::fs::write(bundle.path("rootfs/tmp/text"), "x").expect("file");
    assert_eq!(bundle.fails(), format!("{prefix}\"/tmp/text\": permission denied"));
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.path("rootfs/tmp/text"), executable).expect("mode");
    let error = "run failed: unable to start container process: exec /tmp/text: exec format error";
    assert_eq!(bundle.fails(), error);
}

#[test]
fn a2_01_directories_of_the_machine_are_no_working_directory() {
    for number in 0..16 {
        let bundle = Bundle::new("ls").with("/process/cwd", json!(format!("/proc/self/fd/{number}")));
        let error = bundle.fails();
        assert!(error.contains("chdir") || error.contains("working directory"), "{error}");
    }
}

#[test]
fn a2_02_masks_are_made_of_the_device_alone() {
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    for target in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/keys", "/nowhere"] {
        let bundle = Bundle::new("echo started");
        let dev = bundle.path("dev");
        std::fs::create_dir(&dev).expect("directory");
        for name in ["null", "console", "ptmx", "fd"] {
            symlink(target, dev.join(name)).expect("link");
        }
        let own = json!({ "destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"] });
        let bundle = bundle.with("/mounts/1", own);
        assert!(bundle.fails().contains("`/dev/null` is no null device"));
        std::fs::remove_file(dev.join("null")).expect("removed");
        assert!(bundle.fails().contains("mask paths: "));
        let names: Vec<_> = std::fs::read_dir(&dev).expect("list").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names.len(), 3, "nothing is made in a directory that is brought: {names:?}");
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern"), before);
}

#[test]
fn a2_03_links_lead_no_mount_out() {
    let outside = tempfile::tempdir().expect("directory");
    let canary = outside.path().join("canary");
    std::fs::write(&canary, "before").expect("file");
    let target = |path: &Path| format!("/../../../../..{}", path.display());
    let bundle = Bundle::new("cat /link; ls /dir");
    symlink("/etc/../../../file", bundle.path("rootfs/link")).expect("link");
    std::fs::write(bundle.path("rootfs/file"), "").expect("file");
    symlink(target(outside.path()), bundle.path("rootfs/dir")).expect("link");
    std::fs::write(bundle.path("source"), "mounted\n").expect("file");
    let mount = |to: &str, kind: &str, source: &Path| json!({ "destination": to, "type": kind, "source": source, "options": if kind == "bind" { json!(["bind"]) } else { json!([]) } });
    let source = bundle.path("source");
    let mut mounts = bundle.config["mounts"].as_array().expect("list").clone();
    mounts.extend([mount("/dir", "tmpfs", Path::new("tmpfs")), mount("/link", "bind", &source)]);
    let bundle = bundle.with("/mounts", json!(mounts));
    assert_eq!(bundle.prints(), "mounted\n");
    std::fs::remove_file(bundle.path("rootfs/link")).expect("removed");
    symlink(target(&canary), bundle.path("rootfs/link")).expect("link");
    let error = bundle.fails();
    assert!(error.contains("create the file `/link`: file exists"), "{error}");
    assert_eq!(std::fs::read_to_string(&canary).expect("canary"), "before");
    assert_eq!(std::fs::read_dir(outside.path()).expect("list").count(), 1);
}

#[test]
fn a2_05_nothing_is_mounted_inside_proc() {
    for to in ["/proc/self/attr", "/proc/sys", "/link/self/attr", "/proc"] {
        let bundle = Bundle::new("true");
        symlink("/proc", bundle.path("rootfs/link")).expect("link");
        let mut mounts = bundle.config["mounts"].as_array().expect("list").clone();
        mounts.push(json!({ "destination": to, "type": "tmpfs", "source": "tmpfs" }));
        let error = bundle.with("/mounts", json!(mounts)).fails();
        assert!(error.contains("nothing can be mounted inside /proc"), "{to}: {error}");
    }
    // A link in place of the directory for devices leads the making of nodes nowhere.
    let bundle = Bundle::new("true").with("/mounts/1", json!({ "destination": "/sys", "type": "sysfs" }));
    symlink("tmp", bundle.path("rootfs/dev")).expect("link");
    assert!(bundle.fails().contains("`/dev` of the root file system is no directory"));
}

#[test]
fn a2_05_links_of_neighbours_lead_no_mount_over_what_guards() {
    for (to, word) in [
        ("/", "root directory"),
        ("/sys", "inside /sys"),
        ("/sys/kernel", "inside /sys"),
        ("/proc/sys", "/proc"),
    ] {
        let bundle = Bundle::new("echo started");
        let shared = bundle.path("shared");
        std::fs::create_dir(&shared).expect("directory");
        symlink(to, shared.join("b")).expect("link");
        let mut mounts = bundle.config["mounts"].as_array().expect("list").clone();
        mounts.push(json!({ "destination": "/a", "type": "bind", "source": shared, "options": ["rbind"] }));
        mounts.push(json!({ "destination": "/a/b", "type": "tmpfs", "source": "tmpfs" }));
        let error = bundle.with("/mounts", json!(mounts)).fails();
        assert!(error.contains(word), "{to}: {error}");
    }
    for place in ["proc", "sys"] {
        let bundle = Bundle::new("echo started");
        std::fs::create_dir(bundle.path("rootfs/x")).expect("directory");
        symlink("/x", bundle.path("rootfs").join(place)).expect("link");
        let error = bundle.fails();
        assert!(error.contains("on directories only"), "{place}: {error}");
    }
}

/// Somebody exchanges the directory that `/proc` is mounted on while the container starts.
#[test]
fn a2_02_what_guards_proc_goes_where_proc_goes() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    // One of the two is the kernel's, unless they change places just now.
    let script = "for n in 1 2 3 4 5 6 7 8; do cat /proc/self/mountinfo 2>/tmp/e && break; \
        cat /x/self/mountinfo 2>/tmp/e && break; done; echo end";
    let bundle = Bundle::new(script);
    let [proc, other] = ["rootfs/proc", "rootfs/x"].map(|name| bundle.path(name));
    for directory in [&proc, &other] {
        std::fs::create_dir_all(directory.join("sys")).expect("directory");
    }
    // Its other end is dropped also when a check fails.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while matches!(ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
                let _ = renameat_with(CWD, &proc, CWD, &other, RenameFlags::EXCHANGE);
            }
        });
        let _end = end;
        let mut seen = 0;
        for _ in 0..60 {
            // It may fail to start; what starts has its guards on its /proc, wherever that is.
            let output = bundle.run();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
            let is_proc = |line: &&Vec<&str>| line.len() > 9 && line[3] == "/" && line.contains(&"proc");
            let Some(top) = lines.iter().find(is_proc) else { continue };
            seen += 1;
            let is_on = |line: &&Vec<&str>| line.len() > 9 && line[1] == top[0];
            let guards: Vec<_> = lines.iter().filter(is_on).map(|line| (line[3], &line[5][..2])).collect();
            assert!(guards.contains(&("/sys", "ro")), "{text}");
            assert!(guards.iter().any(|(root, _)| *root == "/null"), "{text}");
        }
        assert!(seen > 10, "{seen} of 60 started");
    });
}

/// The file of the program is not what runs, so that no container gets hold of it (CVE-2019-5736).
#[test]
fn a2_01_the_program_runs_from_memory() {
    let bundle = Bundle::new("sleep 1000");
    let mut running = bundle.command().arg(&bundle.id).spawn().expect("started");
    while !bundle.path("pid").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let program = std::fs::File::open(format!("/proc/{}/exe", running.id())).expect("program");
    assert!(buildkit_util_system::is_sealed(&program));
    let pid = std::fs::read_to_string(bundle.path("pid")).expect("pid").parse().expect("number");
    let pid = rustix::process::Pid::from_raw(pid).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    assert_eq!(running.wait().expect("ended").code(), Some(137));
    bundle.assert_nothing_left();
}

#[test]
fn without_pivot_the_machine_is_covered() {
    let bundle =
        Bundle::new("ls /; readlink /proc/self/root; ls /../..; cat /proc/self/mountinfo | grep -c ' / '");
    let output = bundle.command().arg("--no-pivot").arg(&bundle.id).output().expect("started");
    bundle.assert_nothing_left();
    let text = String::from_utf8(output.stdout).expect("text");
    let listing = "bin\ndev\netc\nproc\nsys\ntmp\n";
    assert!(output.status.success() && text.starts_with(&format!("{listing}/\n{listing}")), "{text}");
}

#[test]
fn a2_07_privileges_that_cannot_come_back() {
    let script = "grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd|CapAmb):' /proc/self/status";
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18 }],
    });
    let status = |bundle: Bundle| bundle.prints().replace('\t', "");
    let zeros = "0000000000000000";
    let bundle =
        Bundle::new(script).with("/linux/seccomp", filter).with("/process/noNewPrivileges", json!(true));
    let expect = format!("CapEff:{zeros}\nCapBnd:{zeros}\nCapAmb:{zeros}\nNoNewPrivs:1\nSeccomp:2\n");
    assert_eq!(status(bundle), expect);
    let capabilities = json!({ "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"] });
    let user = json!({ "uid": 1000, "gid": 1000, "additionalGids": [5] });
    let bundle = Bundle::new(script).with("/process/capabilities", capabilities).with("/process/user", user);
    let kill = "0000000000000020";
    let bounding = "0000000000000021";
    let expect = format!("CapEff:{kill}\nCapBnd:{bounding}\nCapAmb:{kill}\nNoNewPrivs:0\nSeccomp:0\n");
    assert_eq!(status(bundle), expect);
}

#[test]
fn the_first_process_is_the_only_one_that_knows_its_container() {
    let bundle = Bundle::new("sleep 1000");
    let mut running = bundle.command().arg("--keep").arg(&bundle.id).spawn().expect("started");
    while !bundle.path("pid").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let twice = bundle.command().arg(&bundle.id).output().expect("started");
    let text = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(text.contains("already exists"), "{text}");
    std::fs::write(bundle.path("process.json"), bundle.config["process"].to_string()).expect("process");
    let exec = |script: &str| {
        let process = bundle.config["process"].to_string().replace("sleep 1000", script);
        std::fs::write(bundle.path("process.json"), process).expect("process");
        let mut command = Command::new(buildkit_util_testutil::binary("buildkit-runc"));
        command.arg("--root").arg(bundle.path("state")).args(["exec", "--process"]);
        command.arg(bundle.path("process.json")).arg(&bundle.id).output().expect("started")
    };
    let output = exec("cat /proc/1/comm; cat /proc/self/cgroup; exit 3");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(3) && text.starts_with("sleep\n"), "{output:?}");
    let groups = text.lines().skip(1);
    assert!(groups.clone().count() > 0 && groups.clone().all(|line| line.ends_with(&bundle.id)), "{text}");
    let pid: i32 = std::fs::read_to_string(bundle.path("pid")).expect("pid").parse().expect("number");
    let pid = rustix::process::Pid::from_raw(pid).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    assert_eq!(running.wait().expect("ended").code(), Some(137));
    // What is kept is for others to remove; its process is gone, or another one by now.
    let output = exec("true");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not running"), "{output:?}");
    std::fs::remove_dir_all(bundle.path("state").join(&bundle.id)).expect("state");
    let hierarchies = buildkit_executor_resources::Hierarchies::detect().expect("cgroups");
    let path = bundle.config["linux"]["cgroupsPath"].as_str().expect("text");
    buildkit_executor_resources::Cgroup::new(&hierarchies, path).remove().expect("removed");
    bundle.assert_nothing_left();
}
