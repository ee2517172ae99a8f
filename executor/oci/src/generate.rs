use std::path::Path;

use buildkit_executor::{Error, Meta, ResourceLimits, SecurityMode, Ulimit};
use buildkit_util_network::Join;
use buildkit_util_system::{User, path};
use fs_err as fs;

use crate::caps::{DEFAULT_CAPABILITIES, current_capabilities};
use crate::etc::DEFAULT_HOSTNAME;
use crate::mounts::{dedup, default_mounts, mount};
use crate::seccomp::default_profile;
use crate::spec::{
    Capabilities, Cpu, Device, DeviceRule, Linux, Memory, Namespace, Pids, Process, ProcessUser, Resources,
    Rlimit, RootFs, Spec, SpecMount,
};

/// Version of the specification that runtimes in use agree on.
const OCI_VERSION: &str = "1.0.2";

/// Limits that `setrlimit(2)` knows.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Loop devices that an insecure container has beyond those in use.
const SPARE_LOOPS: usize = 7;

/// What is known of a container once its parts are there.
#[derive(Debug)]
pub struct SpecInput<'a> {
    /// Id of the container.
    pub id: &'a str,
    /// The request.
    pub meta: &'a Meta,
    /// Who the process runs as.
    pub user: &'a User,
    /// Directory that shows the root file system.
    pub rootfs: &'a Path,
    /// Whether the root file system is read-only, beside what `meta` says.
    pub readonly_root: bool,
    /// Mounts of the request, with destinations checked.
    pub mounts: Vec<SpecMount>,
    /// File for `/etc/resolv.conf`.
    pub resolv_conf: &'a Path,
    /// File for `/etc/hosts`.
    pub hosts: &'a Path,
    /// The network.
    pub network: &'a Join,
    /// Parent of the cgroup unless `meta` names one; empty is none.
    pub cgroup_parent: &'a str,
    /// Profile of AppArmor for the sandbox.
    pub apparmor_profile: Option<&'a str>,
    /// Most processes at a time.
    pub pids_limit: Option<i64>,
    /// Adjustment of the kernel's choice of victims when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// Whether the kernel runs programs for x32, so that the filter of system calls has to cover them.
    pub x32: bool,
}

/// The path of a container's cgroup below the root of a hierarchy; for a systemd slice with a
/// trailing colon, the name in systemd's form.
pub fn cgroups_path(default_parent: &str, requested_parent: &str, id: &str) -> String {
    let parent = if requested_parent.is_empty() { default_parent } else { requested_parent };
    if parent.contains(".slice") && parent.ends_with(':') {
        format!("{parent}{id}")
    } else {
        path::rooted(&path::join([parent, "buildkit", id]))
    }
}

/// The configuration of a container.
///
/// # Errors
/// [`Error::Invalid`] for limits that do not exist and paths that are no text.
pub fn generate(input: SpecInput<'_>) -> Result<Spec, Error> {
    let insecure = input.meta.security == SecurityMode::Insecure;
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::Invalid(format!("Path `{}` is not valid UTF-8", path.display())))
    };
    let etc = ["nosuid", "noexec", "nodev", "rbind", "ro"];
    let mut mounts = default_mounts(insecure);
    let cgroup = mounts.pop();
    mounts.push(mount("/etc/resolv.conf", "bind", &text(input.resolv_conf)?, &etc));
    mounts.push(mount("/etc/hosts", "bind", &text(input.hosts)?, &etc));
    mounts.extend(cgroup);
    mounts.extend(input.mounts);
    let hostname = if input.meta.hostname.is_empty() { DEFAULT_HOSTNAME } else { &input.meta.hostname };
    let mut process = base_process(input.meta, input.user)?;
    process.oom_score_adj = input.oom_score_adj;
    if !insecure {
        process.apparmor_profile = input.apparmor_profile.map(str::to_owned);
    }
    Ok(Spec {
        oci_version: OCI_VERSION,
        process,
        root: RootFs { path: text(input.rootfs)?, readonly: input.readonly_root || input.meta.readonly_root },
        hostname: hostname.to_owned(),
        mounts: dedup(mounts),
        linux: Linux {
            cgroups_path: cgroups_path(input.cgroup_parent, &input.meta.cgroup_parent, input.id),
            namespaces: namespaces(input.network)?,
            resources: resources(&input.meta.limits, insecure, input.pids_limit),
            devices: if insecure { insecure_devices() } else { Vec::new() },
            masked_paths: if insecure { Vec::new() } else { MASKED_PATHS.to_vec() },
            readonly_paths: if insecure { Vec::new() } else { READONLY_PATHS.to_vec() },
            seccomp: (!insecure).then(|| default_profile(&DEFAULT_CAPABILITIES, input.x32)),
        },
    })
}

/// What says too much of the host, or lets a process change it.
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];

/// What may be read only.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn base_process(meta: &Meta, user: &User) -> Result<Process, Error> {
    if meta.args.is_empty() {
        return Err(Error::Invalid("Process has no arguments".to_owned()));
    }
    Ok(Process {
        terminal: meta.tty,
        user: process_user(user),
        args: meta.args.clone(),
        // Without a value it is no variable.
        env: meta.env.iter().filter(|variable| variable.contains('=')).cloned().collect(),
        cwd: path::rooted(&meta.cwd),
        capabilities: capabilities(meta.security),
        rlimits: meta.ulimits.iter().map(rlimit).collect::<Result<_, _>>()?,
        no_new_privileges: false,
        apparmor_profile: None,
        oom_score_adj: None,
    })
}

/// A further process for a container whose first one is `first`: what `meta` leaves empty is taken
/// from there. `user` is given when `meta` names one.
pub fn exec_process(first: &Process, meta: &Meta, user: Option<&User>) -> Result<Process, Error> {
    if meta.args.is_empty() {
        return Err(Error::Invalid("Process has no arguments".to_owned()));
    }
    let mut process = Process { args: meta.args.clone(), terminal: meta.tty, ..first.clone() };
    if let Some(user) = user {
        process.user = process_user(user);
    }
    if !meta.cwd.is_empty() {
        process.cwd = path::rooted(&meta.cwd);
    }
    if !meta.env.is_empty() {
        process.env = meta.env.iter().filter(|variable| variable.contains('=')).cloned().collect();
    }
    Ok(process)
}

fn process_user(user: &User) -> ProcessUser {
    let mut additional_gids = user.groups.clone();
    if !additional_gids.contains(&user.gid) {
        additional_gids.insert(0, user.gid);
    }
    ProcessUser { uid: user.uid, gid: user.gid, additional_gids }
}

fn capabilities(mode: SecurityMode) -> Capabilities {
    match mode {
        SecurityMode::Sandbox => {
            let set = DEFAULT_CAPABILITIES.to_vec();
            Capabilities {
                bounding: set.clone(),
                effective: set.clone(),
                permitted: set,
                ..Capabilities::default()
            }
        }
        SecurityMode::Insecure => {
            let set = current_capabilities();
            Capabilities {
                bounding: set.clone(),
                effective: set.clone(),
                permitted: set.clone(),
                inheritable: set.clone(),
                ambient: set,
            }
        }
    }
}

fn rlimit(limit: &Ulimit) -> Result<Rlimit, Error> {
    let name = limit.name.to_ascii_lowercase();
    if !ULIMITS.contains(&name.as_str()) {
        return Err(Error::Invalid(format!("Resource limit `{}` does not exist", limit.name)));
    }
    // -1 is no limit: the largest number of the system.
    Ok(Rlimit {
        kind: format!("RLIMIT_{}", name.to_ascii_uppercase()),
        hard: limit.hard.cast_unsigned(),
        soft: limit.soft.cast_unsigned(),
    })
}

fn namespaces(network: &Join) -> Result<Vec<Namespace>, Error> {
    let new = |kind| Namespace { kind, path: None };
    let mut namespaces = vec![new("pid"), new("ipc"), new("uts"), new("mount")];
    match network {
        Join::Host => {}
        Join::New => namespaces.push(new("network")),
        Join::Path(path) => {
            let text = path.to_str().map(str::to_owned);
            let text =
                text.ok_or_else(|| Error::Invalid(format!("Path `{}` is not valid UTF-8", path.display())))?;
            namespaces.push(Namespace { kind: "network", path: Some(text) });
        }
    }
    // On the old hierarchies a namespace of its own fails where a controller is mounted elsewhere.
    if Path::new("/sys/fs/cgroup/cgroup.subtree_control").exists()
        && Path::new("/proc/self/ns/cgroup").exists()
    {
        namespaces.push(new("cgroup"));
    }
    Ok(namespaces)
}

fn resources(limits: &ResourceLimits, insecure: bool, pids_limit: Option<i64>) -> Resources {
    let rule = |allow, kind| DeviceRule { allow, kind, access: "rwm" };
    let nonzero = |value: Option<i64>| value.filter(|value| *value != 0);
    let memory = Memory { limit: nonzero(limits.memory), swap: nonzero(limits.memory_swap) };
    let cpu = Cpu {
        shares: limits.cpu_shares.filter(|value| *value != 0),
        quota: nonzero(limits.cpu_quota),
        period: limits.cpu_period.filter(|value| *value != 0),
        cpus: limits.cpuset_cpus.clone().filter(|value| !value.is_empty()),
        mems: limits.cpuset_mems.clone().filter(|value| !value.is_empty()),
    };
    Resources {
        devices: if insecure {
            vec![rule(true, Some("c")), rule(true, Some("b"))]
        } else {
            vec![rule(false, None)]
        },
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: pids_limit.map(|limit| Pids { limit }),
    }
}

/// Nodes of the kernel's interfaces that privileged builds use, by their registered numbers.
fn insecure_devices() -> Vec<Device> {
    let node = |path: &str, kind, major, minor| Device { path: path.to_owned(), kind, major, minor };
    let mut devices = vec![
        node("/dev/kmsg", "c", 1, 11),
        node("/dev/cuse", "c", 10, 203),
        node("/dev/fuse", "c", 10, 229),
        node("/dev/kvm", "c", 10, 232),
        node("/dev/net/tun", "c", 10, 200),
        node("/dev/loop-control", "c", 10, 237),
    ];
    for (minor, number) in (0_i64..).zip(0..=first_free_loop() + SPARE_LOOPS) {
        devices.push(node(&format!("/dev/loop{number}"), "b", 7, minor));
    }
    devices
}

fn first_free_loop() -> usize {
    let used = |number: usize| fs::metadata(format!("/sys/block/loop{number}/loop/backing_file")).is_ok();
    (0..).find(|number| !used(*number)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(meta: &Meta) -> Result<serde_json::Value, Error> {
        let spec = generate(SpecInput {
            id: "id1",
            meta,
            user: &User { uid: 7, gid: 8, groups: vec![9], home: String::new() },
            rootfs: Path::new("/roots/1"),
            readonly_root: false,
            mounts: vec![mount("/dev/shm", "tmpfs", "tmpfs", &["size=1"])],
            resolv_conf: Path::new("/r"),
            hosts: Path::new("/h"),
            network: &Join::New,
            cgroup_parent: "",
            apparmor_profile: None,
            pids_limit: Some(100),
            oom_score_adj: None,
            x32: true,
        })?;
        Ok(serde_json::to_value(spec).expect("serialisable"))
    }

    fn meta() -> Meta {
        Meta {
            args: vec!["/bin/true".into()],
            env: vec!["A=b".into(), "NOVALUE".into()],
            cwd: "src/x".into(),
            ..Meta::default()
        }
    }

    #[test]
    fn sandbox() {
        let spec = spec(&meta()).expect("valid");
        let process = &spec["process"];
        assert_eq!(process["env"], serde_json::json!(["A=b"]));
        assert_eq!(process["cwd"], "/src/x");
        assert_eq!(process["user"], serde_json::json!({"uid": 7, "gid": 8, "additionalGids": [8, 9]}));
        assert_eq!(process["capabilities"]["bounding"].as_array().map(Vec::len), Some(14));
        assert!(process["capabilities"].get("inheritable").is_none());
        assert!(process["capabilities"].get("ambient").is_none());
        assert!(process.get("rlimits").is_none());
        assert_eq!(process["noNewPrivileges"], false);
        assert_eq!(spec["hostname"], "buildkitsandbox");
        assert_eq!(spec["linux"]["cgroupsPath"], "/buildkit/id1");
        assert_eq!(
            spec["linux"]["resources"]["devices"],
            serde_json::json!([{"allow": false, "access": "rwm"}])
        );
        assert_eq!(spec["linux"]["resources"]["pids"]["limit"], 100);
        assert_eq!(spec["linux"]["seccomp"]["defaultErrnoRet"], 1);
        let points: Vec<&str> = spec["mounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .filter_map(|m| m["destination"].as_str())
            .collect();
        assert_eq!(
            points,
            [
                "/proc",
                "/dev",
                "/dev/pts",
                "/dev/shm",
                "/dev/mqueue",
                "/sys",
                "/etc/resolv.conf",
                "/etc/hosts",
                "/sys/fs/cgroup"
            ]
        );
        assert_eq!(spec["mounts"][3]["options"], serde_json::json!(["size=1"]));
        let kinds: Vec<&str> = spec["linux"]["namespaces"]
            .as_array()
            .expect("namespaces")
            .iter()
            .filter_map(|n| n["type"].as_str())
            .filter(|kind| *kind != "cgroup")
            .collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "network"]);
    }

    #[test]
    fn insecure() {
        let spec = spec(&Meta { security: SecurityMode::Insecure, ..meta() }).expect("valid");
        assert!(spec["linux"].get("seccomp").is_none());
        assert_eq!(spec["linux"]["maskedPaths"], serde_json::json!([]));
        assert_eq!(spec["linux"]["resources"]["devices"].as_array().map(Vec::len), Some(2));
        assert!(spec["mounts"][5]["options"].as_array().expect("options").iter().any(|o| o == "rw"));
        let capabilities = &spec["process"]["capabilities"];
        assert_eq!(capabilities["ambient"], capabilities["bounding"]);
    }

    #[test]
    fn limits() {
        let limit = |name: &str| Ulimit { name: name.into(), soft: 1, hard: -1 };
        let good = Meta {
            ulimits: vec![limit("NoFile")],
            limits: ResourceLimits { memory: Some(1 << 20), cpu_quota: Some(0), ..ResourceLimits::default() },
            ..meta()
        };
        let spec_of = spec(&good).expect("valid");
        assert_eq!(
            spec_of["process"]["rlimits"],
            serde_json::json!([{"type": "RLIMIT_NOFILE", "hard": u64::MAX, "soft": 1}])
        );
        assert_eq!(spec_of["linux"]["resources"]["memory"], serde_json::json!({"limit": 1 << 20}));
        assert!(spec_of["linux"]["resources"].get("cpu").is_none());
        assert!(spec(&Meta { ulimits: vec![limit("nofile\n")], ..meta() }).is_err());
        assert!(spec(&Meta { args: vec![], ..meta() }).is_err());
    }

    #[test]
    fn cgroup_paths() {
        for (default, requested, expect) in [
            ("", "", "/buildkit/i"),
            ("/worker", "", "/worker/buildkit/i"),
            ("/worker", "own/x", "/own/x/buildkit/i"),
            ("", "../../../etc", "/etc/buildkit/i"),
            ("", "system.slice:x:", "system.slice:x:i"),
        ] {
            assert_eq!(cgroups_path(default, requested, "i"), expect);
        }
    }
}
