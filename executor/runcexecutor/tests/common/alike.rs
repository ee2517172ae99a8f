//! What a process can see and do is the same with our runtime as with runc.

use buildkit_executor::{ContainerMount, ExecMount, Meta, NetMode, SecurityMode, Ulimit};

use crate::common::{Fixture, Runtime, bind, mount, sh};

/// Prints what there is to see.
const SCRIPT: &str = "\
    echo == mounts; cat /proc/self/mountinfo; \
    echo == status; grep -vE '^(Vm|Rss|.*ctxt|Pid|Tgid|PPid|NS|Ngid|FDSize|Cpus|Mems|Hugetlb|x86|untag|Sig|Shd|Threads|Kthread|SwapCached)' /proc/self/status; \
    grep -E '^Sig(Blk|Cgt|Pnd)' /proc/self/status; \
    echo == limits; cat /proc/self/limits; ulimit -a; \
    echo == groups; cat /proc/self/cgroup; cat /sys/fs/cgroup/pids/pids.max; \
    cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares \
        /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.mems; \
    echo == files; ls -lan / /dev /dev/pts /dev/shm /proc/acpi /sys/firmware 2>&1 | grep -vE ' (proc|sys|\\.|\\.\\.)$' | sed -E 's/[A-Z][a-z]{2} +[0-9]+ +[0-9:]+//'; \
    echo == self; id; hostname; pwd; umask; env | sort; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l; \
    cat /proc/1/comm; ps -o pid,ppid,comm | head -n 2; cat /proc/self/loginuid; cat /proc/self/attr/current 2>&1; \
    ls /sys/class/net; cat /proc/sys/kernel/hostname; readlink /proc/self/exe";

/// Does what must not work. Nothing for containers with all privileges: there it would.
const DEEDS: &str = "\
    echo == deeds; sort /sys/fs/cgroup/devices/devices.list; for f in /proc/sys/kernel/hostname /sys/kernel/x /proc/sysrq-trigger /dev/x /x; do \
        (echo 1 > $f) 2>&1; done; \
    mknod /tmp/disk b 254 0 && (head -c1 /tmp/disk > /tmp/o) 2>&1; mknod /tmp/mem c 1 1 && (head -c1 /tmp/mem > /tmp/o) 2>&1; \
    mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null; head -c1 /dev/full | wc -c; (echo > /dev/full) 2>&1; \
    mount -t tmpfs t /tmp 2>&1; unshare -m true 2>&1; chroot / true 2>&1; hostname x 2>&1; kill -0 1 2>&1; \
    nice -n -5 true 2>&1; ip link set lo down 2>&1; rm -f /tmp/*; true";

/// Without what is different each time.
fn normal(text: &str, fixture: &Fixture, id: &str) -> String {
    let directory = fixture.dir.path().to_str().expect("path is text");
    let text =
        text.replace(directory, "DIR").replace(directory.trim_start_matches("/tmp"), "DIR").replace(id, "ID");
    let mut in_mounts = false;
    let lines = text.lines().map(|line| {
        if line.starts_with("== ") {
            in_mounts = line == "== mounts";
        }
        let fields: Vec<&str> = line.split(' ').collect();
        if !in_mounts || fields.len() < 5 {
            return line.to_owned();
        }
        // Numbers of mounts and of file systems.
        let mut fields = fields[3..].join(" ");
        // Ours lets nobody write into the directory of the groups' directories.
        if fields.starts_with("/ /sys/fs/cgroup rw,") {
            fields = fields.replacen(" rw,", " ro,", 1);
        }
        // Some releases of runc change the mode afterwards: the list of files tells.
        if fields.starts_with("/ /closed ") {
            fields = fields.replace(",mode=700", "");
        }
        fields
    });
    lines.collect::<Vec<_>>().join("\n")
}

async fn seen(
    runtime: Runtime,
    meta: Meta,
    mounts: fn(&Fixture) -> Vec<ExecMount>,
    readonly: bool,
) -> String {
    let fixture = Fixture::new(runtime).await;
    std::fs::create_dir(fixture.path("data")).expect("directory");
    std::fs::write(fixture.path("data/f"), "x").expect("file");
    let mut root = fixture.root();
    root.readonly = readonly;
    for place in ["etc/hosts", "etc/resolv.conf"] {
        std::fs::write(fixture.path("rootfs").join(place), "").expect("file");
    }
    for place in ["proc", "dev", "sys", "m1", "m2"] {
        std::fs::create_dir(fixture.path("rootfs").join(place)).expect("directory");
    }
    std::fs::create_dir(fixture.path("rootfs/closed")).expect("directory");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(fixture.path("rootfs/closed"), closed).expect("mode");
    let (request, stdout, stderr) = crate::common::request(root, meta, mounts(&fixture));
    let id = request.id.clone();
    let exit = buildkit_executor::Executor::run(&fixture.executor, request).await.expect("ran");
    normal(&format!("{}\n{}{exit:?}", stdout.text(), stderr.text()), &fixture, &id)
}

#[tokio::test]
async fn a2_07_processes_see_and_do_the_same() {
    let none: fn(&Fixture) -> Vec<ExecMount> = |_| Vec::new();
    let some: fn(&Fixture) -> Vec<ExecMount> = |fixture| {
        let snapshot = |selector: &str| ContainerMount::Snapshot {
            mount: bind(fixture.path("data")),
            selector: selector.into(),
        };
        vec![
            ExecMount { readonly: true, ..mount(snapshot("/"), "/m1") },
            mount(snapshot("f"), "/m2/file"),
            mount(ContainerMount::Tmpfs { size: 4096 }, "/m2/memory"),
            ExecMount { readonly: true, ..mount(ContainerMount::Tmpfs { size: 0 }, "/m2/readonly") },
            mount(ContainerMount::Tmpfs { size: 0 }, "/dev/shm"),
            mount(ContainerMount::Tmpfs { size: 0 }, "/closed"),
            mount(ContainerMount::Host { path: fixture.path("data/f") }, "/dev/host"),
        ]
    };
    let base = || sh(&format!("{SCRIPT}; {DEEDS}"));
    let ulimit = |name: &str| Ulimit { name: name.into(), soft: 100, hard: 200 };
    let limits = buildkit_executor::ResourceLimits {
        memory: Some(64 << 20),
        memory_swap: Some(96 << 20),
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        cpuset_cpus: Some("0".into()),
        cpuset_mems: Some("0".into()),
    };
    for (name, meta, mounts, readonly) in [
        ("sandbox", base(), none, false),
        ("user", Meta { user: "u".into(), cwd: "/tmp".into(), ..base() }, none, false),
        ("insecure", Meta { security: SecurityMode::Insecure, ..sh(SCRIPT) }, none, false),
        ("host network", Meta { network: NetMode::Host, hostname: "h".into(), ..base() }, none, false),
        ("read-only", base(), some, true),
        ("mounts", Meta { readonly_root: false, ..base() }, some, false),
        ("limits", Meta { ulimits: vec![ulimit("nofile"), ulimit("core")], limits, ..base() }, none, false),
    ] {
        let own = seen(Runtime::Own, meta.clone(), mounts, readonly).await;
        let runc = seen(Runtime::Runc, meta, mounts, readonly).await;
        assert!(own.contains("== self") && own.lines().count() > 100, "{own}");
        let differ: Vec<_> =
            runc.lines().zip(own.lines()).filter(|(runc, own)| runc != own).take(9).collect();
        assert!(runc == own, "{name}: runc and ours differ: {differ:#?}\n{runc}\n=====\n{own}");
    }
}
