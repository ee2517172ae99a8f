use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache::{CacheManager, CacheOptions, GcPolicy};
use buildkit_cache_contenthash::ContentHasher;
use buildkit_cache_metadata::{MetadataStore, SledOptions, SledStore};
use buildkit_client_llb_sourceresolver::platform_of;
use buildkit_executor_oci::DnsConfig;
use buildkit_executor_runcexecutor::{Options as RuncOptions, RuncExecutor};
use buildkit_exporter::ExporterRegistry;
use buildkit_exporter_containerimage::{ImageExporter, ImageExporterOptions, ImageWriter};
use buildkit_exporter_local::LocalExporter;
use buildkit_exporter_oci::{OciExporter, Variant};
use buildkit_exporter_tar::TarExporter;
use buildkit_session::SessionManager;
use buildkit_snapshot::Snapshotter;
use buildkit_solver_llbsolver_mounts::MountManager;
use buildkit_solver_llbsolver_ops::OpServices;
use buildkit_solver_pb::Platform;
use buildkit_source::SourceRegistry;
use buildkit_source_containerblob::BlobSource;
use buildkit_source_containerimage::{LayoutSource, RegistrySource};
use buildkit_source_local::LocalSource;
use buildkit_util_appcontext as tasks;
use buildkit_util_contentutil::{ContentStore, LocalStore};
use buildkit_util_network::Networks;
use buildkit_util_network_netproviders::{self as netproviders, NetworkOptions};
use buildkit_util_resolver::Registries;
use buildkit_worker::{WorkerInfo, label};
use tokio::sync::Semaphore;

use crate::{Error, RuncWorker};

/// What the worker is told.
pub struct RuncWorkerOptions {
    /// State directory of the daemon.
    pub root: PathBuf,
    /// `auto`, `overlayfs` or `native`; empty is `auto`.
    pub snapshotter: String,
    /// Labels besides the worker's own; they win.
    pub labels: BTreeMap<String, String>,
    /// Platforms to report, the default one first.
    pub platforms: Vec<Platform>,
    /// Rules of garbage collection; empty is none.
    pub gc_policy: Vec<GcPolicy>,
    /// Runtime binary; empty looks for one.
    pub binary: String,
    /// Parent of the containers' cgroups.
    pub cgroup_parent: String,
    /// Profile of AppArmor; empty is none.
    pub apparmor_profile: String,
    /// Networks of containers.
    pub network: NetworkOptions,
    /// DNS of containers.
    pub dns: DnsConfig,
    /// Steps that may run at a time; 0 is no limit.
    pub max_parallelism: usize,
    /// Sessions of clients.
    pub sessions: SessionManager,
    /// Registries that images come from and go to.
    pub registries: Registries,
    /// A command that gets a directory as its last argument and checks the database in it, after an
    /// unclean stop.
    pub probe: Option<Vec<OsString>>,
}

/// Opens the worker: finds the runtime, opens the stores and removes what a crash has left.
///
/// # Errors
/// When a setting makes no sense or a part cannot be opened.
pub async fn open(options: RuncWorkerOptions) -> Result<RuncWorker, Error> {
    let networks = netproviders::open(options.network.clone()).await.map_err(Error::open("the networks"))?;
    let opened = open_with(options, networks.clone()).await;
    if opened.is_err() {
        networks.close().await;
    }
    opened
}

async fn open_with(options: RuncWorkerOptions, networks: Networks) -> Result<RuncWorker, Error> {
    let (name, root) = snapshotter_name(&options)?;
    fs_err::create_dir_all(&root).map_err(Error::io("the worker's directory"))?;
    let id = worker_id(&root)?;

    let opened = {
        let (root, probe) = (root.clone(), options.probe.clone());
        tasks::spawn_blocking(move || open_stores(name, &root, probe))
    };
    let executor_options = RuncOptions {
        commands: if options.binary.is_empty() {
            RuncOptions::new("").commands
        } else {
            vec![options.binary.clone()]
        },
        cgroup_parent: options.cgroup_parent.clone(),
        networks: networks.clone(),
        dns: options.dns.clone(),
        apparmor_profile: Some(options.apparmor_profile.clone()).filter(|profile| !profile.is_empty()),
        ..RuncOptions::new(root.join("executor"))
    };
    let (opened, executor) = tokio::join!(opened, RuncExecutor::open(executor_options));
    let (snapshotter, metadata, content) =
        opened.unwrap_or_else(|error| Err(Error::Invalid(error.to_string())))?;
    let executor = executor.map_err(Error::open("the executor"))?;

    let cache = CacheManager::open(CacheOptions {
        snapshotter,
        metadata: metadata.clone(),
        content,
        mount_root: root.join("mounts"),
        root: root.clone(),
        clock: SystemTime::now,
    })
    .await
    .map_err(Error::open("the cache"))?;

    let checksums = ContentHasher::default();
    let mut sources = SourceRegistry::new();
    sources.register(Arc::new(LocalSource::new(cache.clone(), checksums.clone())));
    sources.register(Arc::new(RegistrySource::new(cache.clone(), options.registries.clone())));
    sources.register(Arc::new(LayoutSource::new(cache.clone())));
    sources.register(Arc::new(BlobSource::new(cache.clone(), options.registries.clone())));
    let mut exporters = ExporterRegistry::new();
    exporters.register(Arc::new(LocalExporter::new()));
    exporters.register(Arc::new(TarExporter::new()));
    let default_platform = options.platforms.first().map(platform_of).unwrap_or_default();
    let writer = ImageWriter::new(cache.clone(), default_platform.clone());
    for variant in [Variant::Oci, Variant::Docker] {
        exporters.register(Arc::new(OciExporter::new(writer.clone(), variant)));
    }
    exporters.register(Arc::new(ImageExporter::new(ImageExporterOptions {
        cache: cache.clone(),
        default_platform,
        registries: options.registries.clone(),
    })));

    let mounts = MountManager::open(cache.clone(), options.sessions.clone(), root.join("special"))
        .await
        .map_err(Error::open("the mounts of secrets and agents"))?;
    let services = Arc::new(OpServices {
        cache,
        checksums,
        executor: Arc::new(executor),
        sources,
        sessions: options.sessions.clone(),
        mounts,
        parallelism: (options.max_parallelism > 0).then(|| Arc::new(Semaphore::new(options.max_parallelism))),
    });
    let info = WorkerInfo {
        id,
        labels: labels(name, networks.default.name(), &options),
        platforms: options.platforms,
        gc_policy: options.gc_policy,
    };
    Ok(RuncWorker { info, services, exporters, metadata, networks })
}

type Stores = (Arc<dyn Snapshotter>, Arc<dyn MetadataStore>, Arc<dyn ContentStore>);

fn open_stores(name: &str, root: &Path, probe: Option<Vec<OsString>>) -> Result<Stores, Error> {
    let snapshots = root.join("snapshots");
    let snapshotter: Arc<dyn Snapshotter> = match name {
        "overlayfs" => {
            Arc::new(buildkit_snapshot_overlayfs::open(snapshots).map_err(Error::open("the snapshots"))?)
        }
        _ => Arc::new(buildkit_snapshot_native::open(snapshots).map_err(Error::open("the snapshots"))?),
    };
    let metadata = SledStore::open(root.join("metadata"), SledOptions { probe, ..SledOptions::default() })
        .map_err(Error::open("the metadata"))?;
    let content = LocalStore::open(root.join("content")).map_err(Error::open("the blobs"))?;
    Ok((snapshotter, Arc::new(metadata), Arc::new(content)))
}

/// The snapshotter and the worker's directory.
fn snapshotter_name(options: &RuncWorkerOptions) -> Result<(&'static str, PathBuf), Error> {
    let overlay = || buildkit_snapshot_overlayfs::is_supported(&options.root);
    let name = match options.snapshotter.as_str() {
        "overlayfs" => {
            overlay().map_err(Error::open("overlayfs"))?;
            "overlayfs"
        }
        "native" => "native",
        "" | "auto" => match overlay() {
            Ok(()) => "overlayfs",
            Err(error) => {
                tracing::warn!(%error, "overlayfs cannot be used here, snapshots are plain copies");
                "native"
            }
        },
        other => {
            return Err(Error::Invalid(format!("Snapshotter `{other}` is not implemented by this daemon")));
        }
    };
    Ok((name, options.root.join(format!("runc-{name}"))))
}

/// The worker's id: random, the same after every restart.
fn worker_id(root: &Path) -> Result<String, Error> {
    let path = root.join("workerid");
    match fs_err::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("the worker's id")(error));
        }
        _ => {}
    }
    let id = buildkit_identity::new_id();
    fs_err::write(&path, &id).map_err(Error::io("the worker's id"))?;
    Ok(id)
}

fn labels(snapshotter: &str, network: &str, options: &RuncWorkerOptions) -> BTreeMap<String, String> {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut labels: BTreeMap<String, String> = [
        (label::EXECUTOR, "oci".to_owned()),
        (label::SNAPSHOTTER, snapshotter.to_owned()),
        (label::HOSTNAME, hostname),
        (label::NETWORK, network.to_owned()),
        (label::OCI_PROCESS_MODE, "sandbox".to_owned()),
        (label::SELINUX_ENABLED, "false".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if !options.apparmor_profile.is_empty() {
        labels.insert(label::APPARMOR_PROFILE.to_owned(), options.apparmor_profile.clone());
    }
    labels.extend(options.labels.clone());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let id = worker_id(dir.path()).unwrap();
        assert!(!id.is_empty());
        assert_eq!(worker_id(dir.path()).unwrap(), id);
        fs_err::write(dir.path().join("workerid"), " \n").unwrap();
        let new = worker_id(dir.path()).unwrap();
        assert_ne!(new, id, "an empty file has no id");
        assert_eq!(worker_id(dir.path()).unwrap(), new);
        assert!(worker_id(&dir.path().join("not there")).is_err());
    }
}
