//! Puts the daemon together: the one place that names implementations.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use buildkit_cache::GcPolicy;
use buildkit_cache::gc::{self, Limits};
use buildkit_cache_remotecache::{LocalCache, RegistryCache};
use buildkit_client_llb_sourceresolver::platform_of;
use buildkit_cmd_buildkitd_config::{Config, DiskSpace, Gc, Network};
use buildkit_control::{Control, ControlOptions};
use buildkit_control_gateway::ActiveBuilds;
use buildkit_executor_oci::DnsConfig;
use buildkit_frontend::{FrontendRegistry, WorkerInfo};
use buildkit_frontend_dockerfile_builder::{self as dockerfile, DockerfileFrontend};
use buildkit_frontend_gateway_forwarder::ForwardedFrontend;
use buildkit_session::SessionManager;
use buildkit_solver::{Solver, SolverOptions};
use buildkit_solver_llbsolver::{
    CacheResults, Imports, LlbSolver, LlbSolverOptions, frontend_caps, llb_caps,
};
use buildkit_solver_llbsolver_history::{BuildHistory, HistoryOptions, Retention};
use buildkit_solver_llbsolver_ops::LlbDomain;
use buildkit_solver_pb::{Platform, caps};
use buildkit_solver_sledcachestorage::{PersistentKeyStore, PersistentKeyStoreOptions};
use buildkit_util_appcontext as tasks;
use buildkit_util_contentutil::{ContentStore, Fallback, LocalStore};
use buildkit_util_entitlements::Entitlements;
use buildkit_util_goflags::parse_bool;
use buildkit_util_network_cniprovider::{BridgeOptions, CniOptions};
use buildkit_util_network_netproviders::NetworkOptions;
use buildkit_util_resolver::{KeyPair, Registries, RegistryConfig, RegistryOptions};
use buildkit_worker::{Worker, WorkerController};
use buildkit_worker_runc::{RuncWorker, RuncWorkerOptions};

use crate::WorkerKinds;
use crate::settings::{Settings, Toggle};

/// A daemon, ready to be served.
pub(crate) struct Daemon {
    pub(crate) control: Control,
    pub(crate) gateway: ActiveBuilds,
    pub(crate) workers: WorkerController,
    pub(crate) history: BuildHistory,
    /// Blobs of the default worker and of the records of builds.
    pub(crate) content: Arc<dyn ContentStore>,
}

/// Opens everything that the settings name.
pub(crate) async fn wire(settings: &Settings, kinds: WorkerKinds) -> anyhow::Result<Daemon> {
    let sessions = SessionManager::new();
    let registries = registries(&settings.config, &sessions);
    let worker = Arc::new(open_worker(settings, kinds, &sessions, &registries).await?);
    let workers = WorkerController::new(vec![worker.clone() as Arc<dyn Worker>]);

    let keys = {
        let database = worker.metadata().clone();
        let open = tasks::spawn_blocking(move || {
            PersistentKeyStore::open(database, PersistentKeyStoreOptions::default())
        });
        open.await?.context("failed to open the cache keys")?
    };
    let keys = Arc::new(keys);
    let imports = Imports::new(keys.clone());
    let solver = Solver::new(
        LlbDomain::new(worker.services().clone()),
        keys,
        Arc::new(CacheResults::new(worker.cache().clone(), imports.clone())),
        SolverOptions::default(),
    );
    let llb_caps = llb_caps(caps::list());
    let frontend_caps = frontend_caps(buildkit_frontend_gateway_pb::caps::list());
    let default_platform = worker.info().platforms.first().cloned().unwrap_or_else(host_platform);
    let registry_cache = RegistryCache::new(registries);
    let local_cache = LocalCache::new(sessions.clone());
    let solver = LlbSolver::new(LlbSolverOptions {
        solver,
        imports,
        importers: vec![Arc::new(registry_cache.clone()), Arc::new(local_cache.clone())],
        cache_exporters: vec![Arc::new(registry_cache), Arc::new(local_cache)],
        sessions: sessions.clone(),
        frontends: frontends(),
        workers: workers.workers().iter().map(|worker| worker_info(&**worker)).collect(),
        default_platform,
        llb_caps: llb_caps.cap_set(llb_caps.all()),
        frontend_caps: frontend_caps.cap_set(frontend_caps.all()),
        entitlements: Entitlements::supported(settings.config.entitlements.as_deref().unwrap_or_default())
            .context("insecure-entitlements")?,
    });
    let (history, content) = open_history(settings, &worker).await?;
    let gateway = ActiveBuilds::new();
    let control = Control::new(ControlOptions {
        solver,
        sessions,
        workers: workers.clone(),
        builds: gateway.clone(),
        history: history.clone(),
        llb_caps,
        frontend_caps,
    });
    Ok(Daemon { control, gateway, workers, history, content })
}

/// The records of builds, and the blobs of the worker with theirs behind them.
async fn open_history(
    settings: &Settings,
    worker: &RuncWorker,
) -> anyhow::Result<(BuildHistory, Arc<dyn ContentStore>)> {
    let directory = settings.root.join("history");
    let metadata = worker.metadata().clone();
    let retention = retention(&settings.config);
    let open = async move {
        let content = tasks::spawn_blocking(move || LocalStore::open(directory.join("content"))).await??;
        let content: Arc<dyn ContentStore> = Arc::new(content);
        let history = BuildHistory::open(HistoryOptions { metadata, content: content.clone(), retention })?;
        anyhow::Ok((history, content))
    };
    let (history, records) = open.await.context("failed to open the build history")?;
    let content = Fallback { first: worker.cache().content().clone(), second: records };
    Ok((history, Arc::new(content)))
}

/// How long records are kept. What is not set in a section that is there is 0, as in the original.
fn retention(config: &Config) -> Retention {
    config.history.as_ref().map_or_else(Retention::default, |history| Retention {
        max_age: history.max_age.0,
        max_entries: usize::try_from(history.max_entries).unwrap_or(0),
    })
}

/// The frontends that run in the daemon itself.
fn frontends() -> FrontendRegistry {
    let mut frontends = FrontendRegistry::new();
    let dockerfile = ForwardedFrontend::new(dockerfile::NAME, Arc::new(DockerfileFrontend));
    frontends.register(Arc::new(dockerfile));
    frontends
}

/// What frontends may know of a worker.
fn worker_info(worker: &dyn Worker) -> WorkerInfo {
    let info = worker.info();
    WorkerInfo {
        id: info.id.clone(),
        labels: info.labels.clone(),
        platforms: info.platforms.iter().map(platform_of).collect(),
    }
}

fn host_platform() -> Platform {
    Platform::new("linux", std::env::consts::ARCH).normalized()
}

async fn open_worker(
    settings: &Settings,
    kinds: WorkerKinds,
    sessions: &SessionManager,
    registries: &Registries,
) -> anyhow::Result<RuncWorker> {
    if settings.containerd_worker == Toggle::On && kinds.containerd {
        if !kinds.oci {
            bail!("The containerd worker is not implemented yet, and this build has no other; use buildkitd");
        }
        tracing::warn!("The containerd worker is not implemented yet, only the OCI worker is started");
    }
    if !kinds.oci {
        bail!("The containerd worker is not implemented yet, and this build has no other; use buildkitd");
    }
    if settings.oci_worker == Toggle::Off {
        bail!("no worker found, rebuild the buildkit daemon?");
    }
    let config = &settings.config;
    let oci = &config.workers.oci;
    if !oci.proxy_snapshotter_path.is_empty() {
        bail!("Proxy snapshotters are not implemented by this daemon");
    }
    let platforms = if oci.platforms.is_empty() {
        supported_platforms()
    } else {
        oci.platforms.iter().map(|text| parse_platform(text)).collect::<anyhow::Result<_>>()?
    };
    let dns = config.dns.clone().unwrap_or_default();
    let options = RuncWorkerOptions {
        root: settings.root.clone(),
        snapshotter: oci.snapshotter.clone(),
        labels: oci.labels.clone(),
        platforms,
        gc_policy: gc_policy(config, &settings.root),
        binary: oci.binary.clone(),
        cgroup_parent: oci.default_cgroup_parent.clone(),
        apparmor_profile: oci.apparmor_profile.clone(),
        network: network(&oci.network, &settings.root),
        dns: DnsConfig {
            nameservers: dns.nameservers,
            options: dns.options,
            search_domains: dns.search_domains,
        },
        max_parallelism: usize::try_from(oci.max_parallelism).unwrap_or(0),
        sessions: sessions.clone(),
        registries: registries.clone(),
        probe: probe_command(),
    };
    Ok(buildkit_worker_runc::open(options).await?)
}

/// Which networks containers have.
fn network(config: &Network, root: &Path) -> NetworkOptions {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let bridge_auto = std::env::var("BUILDKIT_NETWORK_BRIDGE_AUTO").unwrap_or_default();
    NetworkOptions {
        mode: config.mode.clone(),
        bridge_auto: parse_bool(&bridge_auto).unwrap_or(false),
        cni: CniOptions {
            pool_size: usize::try_from(config.cni_pool_size).unwrap_or(0),
            init_lock: set("BUILDKIT_CNI_INIT_LOCK_PATH").map(Into::into),
            ..CniOptions::new(root.join("net"), &config.cni_config_path, &config.cni_binary_path)
        },
        bridge: BridgeOptions {
            name: config.bridge_name.clone(),
            subnet: config.bridge_subnet.clone(),
            search_path: set("PATH").unwrap_or_default(),
        },
    }
}

/// How registries are reached.
fn registries(config: &Config, sessions: &SessionManager) -> Registries {
    let paths = |files: &[String]| files.iter().map(Into::into).collect();
    let configured = config.registries.iter().map(|(host, registry)| {
        let registry = RegistryConfig {
            mirrors: registry.mirrors.clone(),
            plain_http: registry.http,
            insecure: registry.insecure,
            root_cas: paths(&registry.ca),
            key_pairs: registry
                .keypair
                .iter()
                .map(|pair| KeyPair { key: (&pair.key).into(), cert: (&pair.cert).into() })
                .collect(),
            tls_config_dirs: paths(&registry.tls_config_dir),
        };
        (host.clone(), registry)
    });
    let mut options = RegistryOptions {
        registries: configured.collect(),
        ..RegistryOptions::new(sessions.clone(), format!("buildkit/{}", buildkit_version::VERSION))
    };
    let concurrency = config.system.max_registry_concurrency;
    if let Some(concurrency) =
        concurrency.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0)
    {
        options.max_concurrency = concurrency;
    }
    Registries::new(options)
}

/// This program, asked to check a database: see [`crate::main`].
fn probe_command() -> Option<Vec<OsString>> {
    let program = std::env::current_exe().ok()?;
    Some(vec![program.into_os_string(), crate::PROBE_ARGUMENT.into()])
}

/// What this machine runs, its own platform first.
fn supported_platforms() -> Vec<Platform> {
    let mut platforms: Vec<Platform> = buildkit_util_archutil::supported_platforms()
        .into_iter()
        .map(|platform| Platform {
            variant: platform.variant,
            ..Platform::new(platform.os, platform.architecture)
        })
        .collect();
    if platforms.is_empty() {
        platforms.push(host_platform());
    }
    platforms
}

/// `os/architecture[/variant]`, or an architecture of Linux.
fn parse_platform(text: &str) -> anyhow::Result<Platform> {
    let parts: Vec<&str> = text.split('/').collect();
    Ok(match parts[..] {
        [architecture] if !architecture.is_empty() => Platform::new("linux", architecture),
        [os, architecture] => Platform::new(os, architecture),
        [os, architecture, variant] => {
            Platform { variant: variant.to_owned(), ..Platform::new(os, architecture) }
        }
        _ => bail!("failed to parse platform {text:?}"),
    }
    .normalized())
}

/// The rules of the configuration, or the default ones within its limits.
fn gc_policy(config: &Config, root: &Path) -> Vec<GcPolicy> {
    let oci = &config.workers.oci.gc;
    if oci.enabled == Some(false) {
        return Vec::new();
    }
    let space = buildkit_util_disk::space(root).unwrap_or_default();
    let bytes = |size: DiskSpace| size.as_bytes(space.total);
    if !oci.policies.is_empty() {
        let policies = oci.policies.iter().map(|policy| GcPolicy {
            all: policy.all,
            filters: policy.filters.clone(),
            keep_duration: policy.keep_duration.0,
            reserved_space: bytes(if policy.reserved_space.is_unset() {
                policy.keep_bytes
            } else {
                policy.reserved_space
            }),
            max_used_space: bytes(policy.max_used_space),
            min_free_space: bytes(policy.min_free_space),
        });
        return policies.collect();
    }
    let Gc { keep_storage, reserved_space, max_used_space, min_free_space, .. } = oci;
    let is_unset = reserved_space.is_unset() && max_used_space.is_unset() && min_free_space.is_unset();
    let limits = match (is_unset, keep_storage.is_unset()) {
        (true, true) => Limits::detect(space),
        (true, false) => Limits { reserved_space: bytes(*keep_storage), ..Limits::default() },
        (false, _) => Limits {
            reserved_space: bytes(*reserved_space),
            max_used_space: bytes(*max_used_space),
            min_free_space: bytes(*min_free_space),
        },
    };
    gc::default_policies(limits)
}
