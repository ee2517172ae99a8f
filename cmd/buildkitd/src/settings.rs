//! Flags over configuration file over defaults: what the daemon is told, resolved.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use buildkit_cmd_buildkitd_config::{Config, Error as ConfigError, Gc, Network, load, parse_gc_flag};
use buildkit_util_appdefaults::{BRIDGE_NAME, BRIDGE_SUBNET, CNI_BINARY_DIR, Defaults};
use buildkit_util_goflags::parse_bool;

use crate::flags::Flags;

/// What the daemon is told.
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) root: PathBuf,
    /// Things to say once logging works.
    pub(crate) warnings: Vec<String>,
    /// Whether the OCI worker must, must not, or may start.
    pub(crate) oci_worker: Toggle,
    /// As for the OCI worker.
    pub(crate) containerd_worker: Toggle,
}

/// On, off, or on where it can work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toggle {
    On,
    Off,
    Auto,
}

impl Toggle {
    fn parse(flag: Option<&str>, file: Option<bool>) -> anyhow::Result<Self> {
        let is_on = match flag {
            Some(text) if text.is_empty() || text.eq_ignore_ascii_case("auto") => None,
            Some(text) => Some(
                parse_bool(text)
                    .map_err(|_| anyhow!("invalid value {text:?}: expected true, false or auto"))?,
            ),
            None => file,
        };
        Ok(match is_on {
            Some(true) => Self::On,
            Some(false) => Self::Off,
            None => Self::Auto,
        })
    }
}

/// Resolves everything, reading the configuration file.
pub(crate) fn resolve(flags: &Flags) -> anyhow::Result<Settings> {
    let defaults = Defaults::detect();
    let loaded = match &flags.config {
        Some(path) => load(path, false),
        None => load(&defaults.config_dir.join("buildkitd.toml"), true),
    };
    let loaded = loaded.map_err(|error| match error {
        ConfigError::Parse { .. } => anyhow!("{error}"),
        other => anyhow::Error::new(other),
    })?;
    let mut config = loaded.config;
    let mut warnings: Vec<String> = loaded
        .unknown
        .iter()
        .map(|key| format!("Unknown key `{key}` in the configuration file is ignored"))
        .collect();
    let mut idle = loaded.idle;
    idle.extend(idle_flags(flags).map(str::to_owned));
    if !idle.is_empty() {
        warnings.push(format!("These settings have no effect in this version: `{}`", idle.join("`, `")));
    }
    warnings.extend(flags.profile.warning().map(str::to_owned));
    if config.system.max_registry_concurrency.is_some_and(|limit| limit <= 0) {
        bail!("system.maxRegistryConcurrency must be greater than zero");
    }
    if config.debug {
        warnings
            .push("'debug' configuration option is deprecated, use 'log.level = \"debug\"' instead".into());
    }
    if config.trace {
        warnings
            .push("'trace' configuration option is deprecated, use 'log.level = \"trace\"' instead".into());
    }
    if flags.trace.is_some() {
        warnings.push("--trace option is deprecated; use --log-level=trace instead".into());
    }
    config.debug |= flags.debug;
    config.trace |= flags.trace == Some(true);
    set(&mut config.log.format, flags.log_format.as_ref());
    set(&mut config.log.level, flags.log_level.as_ref());
    if !flags.addr.is_empty() {
        config.grpc.address.clone_from(&flags.addr);
    }
    if config.grpc.address.is_empty() {
        config.grpc.address.push(defaults.address.clone());
    }
    if let Some(group) = flags.group.as_deref().filter(|group| !group.is_empty()) {
        config.grpc.gid = Some(group_id(group)?);
    }
    set(&mut config.grpc.debug_address, flags.debugaddr.as_ref());
    set(&mut config.grpc.tls.cert, flags.tlscert.as_ref());
    set(&mut config.grpc.tls.key, flags.tlskey.as_ref());
    set(&mut config.grpc.tls.ca, flags.tlscacert.as_ref());
    set(&mut config.otel.socket_path, flags.otel_socket_path.as_ref());
    if !flags.allow_insecure_entitlement.is_empty() {
        config.entitlements = Some(flags.allow_insecure_entitlement.clone());
    }
    config.proxy_network = flags.proxy_network.unwrap_or(config.proxy_network);
    config.cdi.disabled = flags.cdi_disabled.or(config.cdi.disabled);
    if !flags.cdi_spec_dir.is_empty() {
        config.cdi.spec_dirs.clone_from(&flags.cdi_spec_dir);
    }
    apply_oci(flags, &mut config)?;
    apply_network_defaults(&defaults, &mut config.workers.oci.network);
    let oci_worker =
        Toggle::parse(flags.oci_worker.as_deref(), config.workers.oci.enabled).context("--oci-worker")?;
    let containerd_worker =
        Toggle::parse(flags.containerd_worker.as_deref(), config.workers.containerd.enabled)
            .context("--containerd-worker")?;
    let root = match &flags.root {
        Some(root) => root.clone(),
        None if !config.root.is_empty() => PathBuf::from(&config.root),
        None => defaults.root,
    };
    let root = std::path::absolute(&root).with_context(|| format!("Bad root {}", root.display()))?;
    if flags.save_cache_debug {
        warnings.push("--save-cache-debug: preimages are always kept with the cache keys here".into());
    }
    if !config.grpc.debug_address.is_empty() {
        warnings.push(format!(
            "The debug server is not part of this build, `{}` is not listened on",
            config.grpc.debug_address
        ));
    }
    if config.proxy_network {
        bail!("The proxy network is not implemented by this daemon");
    }
    Ok(Settings { config, root, warnings, oci_worker, containerd_worker })
}

/// Flags that were given and whose subject does not exist yet.
fn idle_flags(flags: &Flags) -> impl Iterator<Item = &'static str> {
    let given = [
        ("--otel-socket-path", flags.otel_socket_path.is_some()),
        ("--cdi-disabled", flags.cdi_disabled.is_some()),
        ("--cdi-spec-dir", !flags.cdi_spec_dir.is_empty()),
    ];
    given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name)
}

fn apply_oci(flags: &Flags, config: &mut Config) -> anyhow::Result<()> {
    let oci = &mut config.workers.oci;
    for label in &flags.oci_worker_labels {
        let Some((key, value)) = label.split_once('=') else {
            bail!("invalid label {label:?}: expected key=value");
        };
        oci.labels.insert(key.to_owned(), value.to_owned());
    }
    set(&mut oci.snapshotter, flags.oci_worker_snapshotter.as_ref());
    set(&mut oci.proxy_snapshotter_path, flags.oci_worker_proxy_snapshotter_path.as_ref());
    if !flags.oci_worker_platform.is_empty() {
        oci.platforms.clone_from(&flags.oci_worker_platform);
    }
    set(&mut oci.network.mode, flags.oci_worker_net.as_ref());
    set(&mut oci.network.cni_config_path, flags.oci_cni_config_path.as_ref());
    set(&mut oci.network.cni_binary_path, flags.oci_cni_binary_dir.as_ref());
    if let Some(size) = flags.oci_cni_pool_size {
        oci.network.cni_pool_size = size;
    }
    set(&mut oci.binary, flags.oci_worker_binary.as_ref());
    set(&mut oci.apparmor_profile, flags.oci_worker_apparmor_profile.as_ref());
    oci.selinux = flags.oci_worker_selinux.unwrap_or(oci.selinux);
    if oci.selinux {
        bail!("SELinux labels are not implemented by this daemon");
    }
    if let Some(limit) = flags.oci_max_parallelism {
        oci.max_parallelism = limit;
    }
    if let Some(rootless) = flags.oci_worker_rootless.or(flags.rootless) {
        oci.rootless = rootless;
    }
    oci.no_process_sandbox = flags.oci_worker_no_process_sandbox.unwrap_or(oci.no_process_sandbox);
    if oci.no_process_sandbox && !oci.rootless {
        bail!("can't enable NoProcessSandbox without Rootless");
    }
    if oci.rootless {
        bail!("Rootless mode is not implemented by this daemon");
    }
    if flags.oci_worker_gc.is_some() {
        oci.gc.enabled = flags.oci_worker_gc;
    }
    if let Some(text) = flags.oci_worker_gc_keepstorage.as_deref().filter(|text| !text.is_empty()) {
        let Gc { reserved_space, max_used_space, min_free_space, .. } = parse_gc_flag(text)?;
        (oci.gc.reserved_space, oci.gc.max_used_space, oci.gc.min_free_space) =
            (reserved_space, max_used_space, min_free_space);
    }
    Ok(())
}

/// What is not set is the original's.
fn apply_network_defaults(defaults: &Defaults, network: &mut Network) {
    if network.cni_config_path.is_empty() {
        network.cni_config_path = defaults.config_dir.join("cni.json").to_string_lossy().into_owned();
    }
    for (place, default) in [
        (&mut network.cni_binary_path, CNI_BINARY_DIR),
        (&mut network.bridge_name, BRIDGE_NAME),
        (&mut network.bridge_subnet, BRIDGE_SUBNET),
    ] {
        if place.is_empty() {
            default.clone_into(place);
        }
    }
}

fn set(place: &mut String, flag: Option<&String>) {
    if let Some(value) = flag {
        place.clone_from(value);
    }
}

/// A group by number or by name.
fn group_id(group: &str) -> anyhow::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let file = fs_err::read_to_string("/etc/group")?;
    file.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let id = fields.nth(1)?.parse().ok()?;
            (name == group).then_some(id)
        })
        .next()
        .with_context(|| format!("unknown group {group}"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    /// The settings of a command line and the text of a configuration file.
    fn settings(args: &[&str], file: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("buildkitd.toml");
        fs_err::write(&path, file).expect("a file");
        let first = [OsString::from("buildkitd"), "--config".into(), path.into()];
        let flags: Flags =
            buildkit_util_goflags::try_parse_from(first.into_iter().chain(args.iter().map(Into::into)))
                .map_err(|error| error.to_string())?;
        resolve(&flags).map_err(|error| format!("{error:#}"))
    }

    fn error(args: &[&str], file: &str) -> String {
        settings(args, file).err().unwrap_or_default()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = r#"
            root = "/of/the/file"
            insecure-entitlements = ["network.host"]
            [log]
            format = "json"
            [grpc]
            address = ["unix:///of/the/file.sock"]
            gid = 7
            [grpc.tls]
            cert = "file.pem"
            key = "file.key"
            [worker.oci]
            enabled = false
            snapshotter = "native"
            max-parallelism = 3
            [worker.oci.labels]
            "of.file" = "1"
            "of.both" = "1"
        "#;
        let of_file = settings(&[], file).expect("valid");
        assert_eq!(of_file.root, PathBuf::from("/of/the/file"));
        assert_eq!(of_file.config.grpc.address, ["unix:///of/the/file.sock"]);
        assert_eq!((of_file.config.grpc.gid, of_file.oci_worker), (Some(7), Toggle::Off));
        assert_eq!(of_file.config.workers.oci.max_parallelism, 3);
        assert!(of_file.warnings.is_empty(), "{:?}", of_file.warnings);

        let both = settings(
            &[
                "--root=/of/the/flag",
                "--addr=tcp://127.0.0.1:1",
                "--addr=unix:///of/the/flag.sock",
                "--group=9",
                "--tlscert=flag.pem",
                "--allow-insecure-entitlement=security.insecure",
                "--oci-worker=true",
                "--oci-worker-labels=of.both=2",
                "--oci-worker-labels=of.flag=3",
                "--oci-max-parallelism=5",
                "--oci-worker-gc=false",
            ],
            file,
        )
        .expect("valid");
        assert_eq!(both.root, PathBuf::from("/of/the/flag"));
        assert_eq!(both.config.grpc.address, ["tcp://127.0.0.1:1", "unix:///of/the/flag.sock"]);
        assert_eq!((both.config.grpc.gid, both.oci_worker), (Some(9), Toggle::On));
        // Each on its own: what no flag names stays the file's.
        assert_eq!((&*both.config.grpc.tls.cert, &*both.config.grpc.tls.key), ("flag.pem", "file.key"));
        assert_eq!(both.config.entitlements.as_deref(), Some(&["security.insecure".to_owned()][..]));
        let oci = &both.config.workers.oci;
        let labels: Vec<_> = oci.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(labels, ["of.both=2", "of.file=1", "of.flag=3"]);
        assert_eq!((&*oci.snapshotter, oci.max_parallelism, oci.gc.enabled), ("native", 5, Some(false)));

        let neither = settings(&[], "").expect("valid");
        assert_eq!((neither.oci_worker, neither.containerd_worker), (Toggle::Auto, Toggle::Auto));
        assert_eq!(neither.config.grpc.address.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_unknown_is_named() {
        let unknown = settings(&[], "nonsense = 1\n[worker.other]\nenabled = true").expect("valid");
        let named = unknown.warnings.iter().any(|warning| warning.contains("`nonsense`"));
        assert!(named, "{:?}", unknown.warnings);
        assert!(error(&["--group=no such group"], "").contains("no such group"));
        assert!(settings(&[], "root = 1").is_err());
        assert!(settings(&[], "= broken").is_err());
        let missing = buildkit_util_goflags::try_parse_from(
            ["buildkitd", "--config=/not/there.toml"].map(OsString::from),
        );
        assert!(resolve(&missing.expect("flags")).is_err(), "a file that is named has to be there");
    }

    #[test]
    fn flags_are_over_the_file() {
        let file = "proxyNetwork = true\n[worker.oci]\nselinux = true\nrootless = true\nlabels = { a = '1' }";
        let args = [
            "-proxy-network=false",
            "--oci-worker-selinux=F",
            "--oci-worker-rootless=0",
            "--oci-worker-labels=b=2,c=3",
            "--oci-worker=AUTO",
            "--containerd-worker=False",
            "--root=/a",
            "--root=/b",
        ];
        let settings = settings(&args, file).expect("valid");
        let labels: Vec<_> = settings.config.workers.oci.labels.into_iter().collect();
        assert_eq!(labels, [("a", "1"), ("b", "2,c=3")].map(|(key, value)| (key.into(), value.into())));
        assert_eq!((settings.oci_worker, settings.containerd_worker), (Toggle::Auto, Toggle::Off));
        assert_eq!(settings.root, std::path::Path::new("/b"));
        assert_eq!(settings.warnings, [""; 0]);
    }

    #[test]
    fn networks_have_defaults_which_the_file_and_flags_replace() {
        let network =
            |args: &[&str], file: &str| settings(args, file).expect("valid").config.workers.oci.network;
        let default = network(&[], "");
        assert_eq!((&*default.mode, default.cni_pool_size), ("", 0));
        assert_eq!((&*default.bridge_name, &*default.bridge_subnet), ("buildkit0", "10.10.0.0/16"));
        assert_eq!(default.cni_config_path, "/etc/buildkit/cni.json");
        assert_eq!(default.cni_binary_path, "/opt/cni/bin");
        let file = "[worker.oci]\nnetworkMode = 'cni'\ncniConfigPath = '/c'\ncniBinaryPath = '/b'\ncniPoolSize = 3\n\
                    bridgeName = 'br7'\nbridgeSubnet = '10.7.0.0/24'";
        let of_file = network(&[], file);
        assert_eq!(
            (&*of_file.mode, &*of_file.cni_config_path, &*of_file.cni_binary_path),
            ("cni", "/c", "/b")
        );
        assert_eq!((&*of_file.bridge_name, &*of_file.bridge_subnet), ("br7", "10.7.0.0/24"));
        assert_eq!(of_file.cni_pool_size, 3);
        let args = [
            "--oci-worker-net=bridge",
            "--oci-cni-config-path=/d",
            "--oci-cni-binary-dir=/e",
            "--oci-cni-pool-size=4",
        ];
        let of_flags = network(&args, file);
        assert_eq!((&*of_flags.mode, of_flags.cni_pool_size), ("bridge", 4));
        assert_eq!((&*of_flags.cni_config_path, &*of_flags.cni_binary_path), ("/d", "/e"));
        assert!(settings(&args, file).expect("valid").warnings.is_empty());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (args, file, expect) in [
            (&["--oci-worker-selinux"][..], "", "SELinux labels are not implemented by this daemon"),
            (&[], "[worker.oci]\nselinux = true", "SELinux labels are not implemented by this daemon"),
            (&["--rootless"], "", "Rootless mode is not implemented by this daemon"),
            (&["--proxy-network"], "", "The proxy network is not implemented by this daemon"),
            (&["--oci-worker-labels=a"], "", "invalid label \"a\": expected key=value"),
            (
                &["--oci-worker=maybe"],
                "",
                "--oci-worker: invalid value \"maybe\": expected true, false or auto",
            ),
            (
                &[],
                "[system]\nmaxRegistryConcurrency = 0",
                "system.maxRegistryConcurrency must be greater than zero",
            ),
        ] {
            assert_eq!(error(args, file), expect);
        }
    }

    #[test]
    fn what_has_no_effect_is_said_once() {
        let file = "provenanceEnvDir = '/p'\n[otel]\nsocketPath = '/s'";
        let settings = settings(&["-cdi-disabled=true", "--profile-cpu=/p"], file).expect("valid");
        assert_eq!(
            settings.warnings,
            [
                "These settings have no effect in this version: `otel.socketPath`, `provenanceEnvDir`, \
                 `--cdi-disabled`",
                "The --profile-* flags are about the runtime of Go and have no effect",
            ]
        );
    }
}
