//! Networks of steps, with the plugins of the machine (Debian's `containernetworking-plugins`).

use std::path::PathBuf;

use buildkit_client_llb::{CacheSharing, Mount, Network, Security, State};
use buildkit_util_testutil::{DaemonOptions, Run, binary, wait_for};

use crate::sandbox::{Sandbox, base, shell, together};

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A bridge and a subnet that nobody else on this machine has, and a directory for what plugins remember.
struct Net {
    bridge: String,
    prefix: String,
    dir: tempfile::TempDir,
}

impl Net {
    /// `number` tells the tests of one run apart.
    fn new(number: u8) -> Self {
        let pid = std::process::id();
        let [first, second, ..] = (pid * 8 + u32::from(number)).to_le_bytes();
        Self {
            bridge: format!("bkt{pid}x{number}"),
            prefix: format!("10.{}.{second}.", 128 + first % 64),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn subnet(&self) -> String {
        format!("{}0/24", self.prefix)
    }

    fn leases(&self) -> PathBuf {
        self.dir.path().join("leases")
    }

    /// The options of a daemon with a configuration file, and further plugins after the bridge.
    fn options(&self) -> DaemonOptions {
        let config = self.dir.path().join("cni.conflist");
        let text = format!(
            r#"{{"cniVersion": "1.0.0", "name": "net", "plugins": [{{
                "type": "bridge", "bridge": "{}", "isDefaultGateway": true, "ipMasq": true,
                "ipam": {{ "type": "host-local", "dataDir": "{}", "ranges": [[{{ "subnet": "{}" }}]] }} }}]}}"#,
            self.bridge,
            self.leases().display(),
            self.subnet(),
        );
        fs_err::write(&config, text).unwrap();
        DaemonOptions::new()
            .flag(format!("--oci-cni-config-path={}", config.display()))
            .flag(format!("--oci-cni-binary-dir={PLUGINS}"))
    }

    /// Addresses that are taken.
    fn taken(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.leases().join("net")).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(&self.prefix))
            .collect()
    }

    fn bridge_exists(&self) -> bool {
        interfaces().contains(&self.bridge)
    }

    /// Interfaces that are connected to the bridge.
    fn ports(&self) -> Vec<PathBuf> {
        let ports = fs_err::read_dir(format!("/sys/class/net/{}/brif", self.bridge)).into_iter().flatten();
        ports.map(|port| port.unwrap().path()).collect()
    }

    /// Whether an output has an address of the subnet.
    fn address_in(&self, text: &str) -> Option<String> {
        let at = text.find(&self.prefix)?;
        let end = text[at..].find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len() - at);
        Some(text[at..at + end].to_owned())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // The plugin never removes its bridge.
        if self.bridge_exists() {
            let _ = Run::new("busybox").args(["ip", "link", "del", &self.bridge]).run();
        }
    }
}

fn interfaces() -> Vec<String> {
    let entries = fs_err::read_dir("/sys/class/net").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Mounts of namespaces below a root.
fn namespaces(sandbox: &Sandbox) -> usize {
    sandbox.daemon.census().mounts.iter().filter(|mount| mount.contains("/net/cni/")).count()
}

/// The interfaces of a step with the address of `eth0`, and its namespace.
const SHOW: &str = "ls /sys/class/net; busybox ifconfig eth0 | grep inet; readlink /proc/self/ns/net";

fn show(sandbox: &Sandbox, salt: &str, network: Network, security: Security) -> String {
    let script = format!("{{ {SHOW}; }} > /out/result; : {salt}");
    let run = base().run().network(network).security(security).args(["/bin/sh", "-c", &script]);
    let out = sandbox.path("out");
    let _ = fs_err::remove_dir_all(&out);
    let state = run.mount("/out", Mount::scratch()).done().mount("/out").unwrap();
    let allow = ["--allow", "network.host", "--allow", "security.insecure"];
    sandbox.build(&state).args(allow).args(crate::sandbox::to_directory(&out)).run().assert_ok();
    fs_err::read_to_string(out.join("result")).unwrap()
}

fn both_allowed(options: DaemonOptions) -> DaemonOptions {
    ["network.host", "security.insecure"]
        .iter()
        .fold(options, |options, name| options.flag(format!("--allow-insecure-entitlement={name}")))
}

#[test]
fn steps_have_networks_of_their_own() {
    let net = Net::new(1);
    let mut sandbox = Sandbox::with(both_allowed(net.options()));
    let workers = sandbox.daemon.buildctl(["debug", "workers", "-v"]).run().assert_ok().text();
    assert!(workers.contains("org.mobyproject.buildkit.worker.network"), "{workers}");
    let label = workers.lines().find(|line| line.contains("worker.network")).unwrap();
    assert!(label.trim().ends_with("cni"), "a configuration that is there is used: {label}");

    let sandboxed = |salt: &str| show(&sandbox, salt, Network::Sandbox, Security::Sandbox);
    let first = sandboxed("1");
    let address = net.address_in(&first).unwrap_or_else(|| panic!("no address: {first}"));
    assert!(first.contains("eth0") && first.contains("lo\n"), "{first}");
    // The namespace that was made at the start is used by one step after the other.
    assert_eq!(sandboxed("2"), first);
    assert_eq!(namespaces(&sandbox), 1);
    // Who could have changed it keeps it.
    let insecure = show(&sandbox, "3", Network::Sandbox, Security::Insecure);
    assert_eq!(net.address_in(&insecure).as_ref(), Some(&address), "{insecure}");
    let fresh = sandboxed("4");
    assert_ne!(fresh.lines().last(), first.lines().last(), "{fresh}");
    assert!(net.address_in(&fresh).is_some_and(|other| other != address), "{fresh}");

    let none = show(&sandbox, "5", Network::None, Security::Sandbox);
    assert_eq!(none.lines().next(), Some("lo"), "{none}");
    assert!(!none.contains("eth0"), "{none}");
    let host = show(&sandbox, "6", Network::Host, Security::Sandbox);
    let here = fs_err::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(host.lines().last(), here.to_str(), "{host}");

    assert!(sandbox.daemon.stop().success());
    assert_eq!(sandbox.daemon.census().mounts.len(), 0);
    assert_eq!((net.taken(), net.ports()), (Vec::new(), Vec::new()));
}

#[test]
fn steps_at_one_time_reach_each_other() {
    let net = Net::new(2);
    let mut sandbox = Sandbox::with(net.options().flag("--oci-cni-pool-size=2"));
    wait_for("the pool", std::time::Duration::from_secs(60), || (namespaces(&sandbox) == 2).then_some(()));
    let step = |me: &str, other: &str| -> State {
        let script = format!(
            "busybox ifconfig eth0 | sed -n 's/.*inet addr:\\([0-9.]*\\).*/\\1/p' > /m/{me}.new && mv /m/{me}.new /m/{me}; \
             i=0; while [ ! -s /m/{other} ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; \
             busybox ping -c 1 -W 20 $(cat /m/{other}) > /out/{me}-ping; cat /m/{me} > /out/{me}; \
             touch /m/{me}-done; i=0; while [ ! -e /m/{other}-done ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done"
        );
        let run = base()
            .run()
            .args(["/bin/sh", "-c", &script])
            .mount("/m", Mount::cache("m", CacheSharing::Shared));
        run.mount("/out", Mount::scratch()).done().mount("/out").unwrap()
    };
    let out = sandbox.export(&together(&[step("a", "b"), step("b", "a")]));
    let read = |name: &str| fs_err::read_to_string(out.join(name)).unwrap();
    let (a, b) = (read("a"), read("b"));
    assert!(a.starts_with(&net.prefix) && b.starts_with(&net.prefix) && a != b, "{a} {b}");
    for name in ["a-ping", "b-ping"] {
        assert!(read(name).contains("1 packets received"), "{}", read(name));
    }
    assert_eq!(namespaces(&sandbox), 2);
    assert!(sandbox.daemon.stop().success());
    assert_eq!((net.taken(), net.ports()), (Vec::new(), Vec::new()));
}

#[test]
fn names_of_steps_are_known_to_plugins() {
    let net = Net::new(3);
    let plugins = net.dir.path().join("bin");
    fs_err::create_dir(&plugins).unwrap();
    for name in ["bridge", "host-local"] {
        let script = format!(
            "#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] && echo \"$CNI_ARGS\" >> {}\nexec {}/{name} \"$@\"\n",
            net.dir.path().join("args").display(),
            PLUGINS,
        );
        fs_err::write(plugins.join(name), script).unwrap();
        fs_err::set_permissions(plugins.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let sandbox = Sandbox::with(net.options().flag(format!("--oci-cni-binary-dir={}", plugins.display())));
    let named = |name: &str| {
        let run = base().hostname(name).run().args(["/bin/sh", "-c", "hostname; busybox ifconfig eth0"]);
        run.done().root()
    };
    let text = sandbox.build(&named("my-step")).run().assert_ok().text();
    assert!(text.contains("my-step") && net.address_in(&text).is_some(), "{text}");
    let args = fs_err::read_to_string(net.dir.path().join("args")).unwrap();
    assert!(args.lines().any(|line| line == "IgnoreUnknown=1;K8S_POD_NAME=my-step"), "{args}");
    // Plugins take further arguments in the same line.
    let wanted = format!("a;IP={}99", net.prefix);
    let output = sandbox.build(&named(&wanted)).run().assert_fails();
    assert!(output.text().contains("cannot be given to CNI plugins"), "{}", output.text());
    // Networks with names are nobody else's: they go, after the step that had one has ended.
    let deadline = std::time::Duration::from_secs(60);
    wait_for("the end of a network", deadline, || (namespaces(&sandbox) == 1).then_some(()));
}

#[test]
fn a_bridge_of_the_daemons_own_goes_with_it() {
    let net = Net::new(4);
    let options = DaemonOptions::new()
        .worker("networkMode = \"bridge\"")
        .worker(&format!("cniBinaryPath = \"{PLUGINS}\""))
        .worker(&format!("bridgeName = \"{}\"\nbridgeSubnet = \"{}\"", net.bridge, net.subnet()));
    let mut sandbox = Sandbox::with(options);
    assert!(net.bridge_exists());
    let script = format!("{{ {SHOW}; busybox ping -c 1 -W 20 {}1; }} > /out/result", net.prefix);
    let result = sandbox.script(&script);
    assert!(net.address_in(&result).is_some() && result.contains("1 packets received"), "{result}");
    let workers = sandbox.daemon.buildctl(["debug", "workers", "-v"]).run().assert_ok().text();
    let label = workers.lines().find(|line| line.contains("worker.network")).unwrap();
    assert!(label.trim().ends_with("cni"), "{label}");
    // It is still the daemon's own after a crash.
    sandbox.daemon.kill();
    assert_eq!(namespaces(&sandbox), 1);
    sandbox.daemon.launch();
    assert!(sandbox.daemon.stop().success());
    assert!(!net.bridge_exists());
    assert_eq!(sandbox.daemon.census().mounts.len(), 0);
    // One that was there before stays.
    Run::new("busybox").args(["ip", "link", "add", &net.bridge, "type", "bridge"]).run().assert_ok();
    sandbox.daemon.launch();
    assert!(sandbox.daemon.stop().success());
    assert!(net.bridge_exists() && net.ports().is_empty());
}

#[test]
fn what_a_crash_leaves_is_taken_down() {
    let net = Net::new(5);
    let mut sandbox = Sandbox::with(net.options().flag("--oci-cni-pool-size=3"));
    let deadline = std::time::Duration::from_secs(60);
    wait_for("the pool", deadline, || (namespaces(&sandbox) == 3).then_some(()));
    let mut build = sandbox.build(&shell(&base(), "echo is-up; sleep 1000")).start();
    build.wait_for_text("is-up");
    let before = net.taken();
    sandbox.daemon.kill();
    build.wait();
    assert_eq!((namespaces(&sandbox), net.ports().len()), (3, 3));
    sandbox.daemon.launch();
    wait_for("the end of the old", deadline, || {
        let taken = net.taken();
        (taken.len() == 3 && !taken.iter().any(|address| before.contains(address))).then_some(())
    });
    sandbox.assert_serves("again");
    assert_eq!((namespaces(&sandbox), net.ports().len()), (3, 3));
    assert!(sandbox.daemon.stop().success());
    assert_eq!((net.taken(), net.ports()), (Vec::new(), Vec::new()));
    assert_eq!(sandbox.daemon.census().mounts.len(), 0);
}

#[test]
fn networks_that_do_not_work_are_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs_err::write(path("broken.json"), "{\"name\":").unwrap();
    fs_err::write(path("missing.json"), r#"{"name":"n","type":"no-such-plugin"}"#).unwrap();
    let run = |mode: &str, config: &str| {
        Run::new(binary("buildkitd"))
            .args(["--containerd-worker=false", "--root", &path("root")])
            .args(["--addr", &format!("unix://{}", path("socket")), "--oci-worker-net", mode])
            .args(["--oci-cni-binary-dir", PLUGINS, "--oci-cni-config-path", &path(config)])
            .run()
            .assert_fails()
            .text()
    };
    for (mode, config, expect) in [
        ("auto", "broken.json", "EOF while parsing"),
        ("cni", "none.json", "none.json"),
        ("cni", "missing.json", "CNI plugin `no-such-plugin` failed to ADD: no such program in"),
        ("nonsense", "none.json", "Invalid network mode \"nonsense\""),
    ] {
        let text = run(mode, config);
        assert!(text.contains(expect), "{expect}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    let left = fs_err::read_dir(path("root/net/cni")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}
