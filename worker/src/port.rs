use std::collections::BTreeMap;

use async_trait::async_trait;
use buildkit_cache::{CacheManager, GcPolicy};
use buildkit_exporter::ExporterRegistry;
use buildkit_solver_pb::Platform;

/// Keys of worker labels (upstream `worker/label`).
pub mod label {
    /// How containers run: `oci` or `containerd`.
    pub const EXECUTOR: &str = "org.mobyproject.buildkit.worker.executor";
    /// Name of the snapshotter.
    pub const SNAPSHOTTER: &str = "org.mobyproject.buildkit.worker.snapshotter";
    /// Host name of the machine.
    pub const HOSTNAME: &str = "org.mobyproject.buildkit.worker.hostname";
    /// Default network mode of containers.
    pub const NETWORK: &str = "org.mobyproject.buildkit.worker.network";
    /// AppArmor profile of containers.
    pub const APPARMOR_PROFILE: &str = "org.mobyproject.buildkit.worker.apparmor.profile";
    /// Whether containers have SELinux labels.
    pub const SELINUX_ENABLED: &str = "org.mobyproject.buildkit.worker.selinux.enabled";
    /// Whether containers have process namespaces of their own: `sandbox` or `no-sandbox`.
    pub const OCI_PROCESS_MODE: &str = "org.mobyproject.buildkit.worker.oci.process-mode";
}

/// What people may know of a worker.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Random id that outlives restarts.
    pub id: String,
    /// Labels; [`label`] names the keys of ours.
    pub labels: BTreeMap<String, String>,
    /// Platforms that it runs, the default one first.
    pub platforms: Vec<Platform>,
    /// Rules of its garbage collection.
    pub gc_policy: Vec<GcPolicy>,
}

/// What a daemon builds with: caches, runs and exports on one machine.
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// What people may know of it.
    fn info(&self) -> &WorkerInfo;

    /// What it has cached.
    fn cache(&self) -> &CacheManager;

    /// Where it can deliver results.
    fn exporters(&self) -> &ExporterRegistry;

    /// Ends it in order: everything is written, nothing is mounted any more.
    async fn close(&self);
}
