//! Command line of the daemon: names and meaning are upstream's.

use std::path::PathBuf;

use buildkit_util_goflags::ProfileFlags;
use clap::Parser;

/// The build daemon.
#[derive(Clone, Debug, Parser)]
#[command(name = "buildkitd", about = "build daemon", disable_version_flag = true)]
pub(crate) struct Flags {
    /// path to config file
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// enable debug output in logs
    #[arg(long)]
    pub(crate) debug: bool,
    /// enable trace output in logs (highly verbose, could affect performance)
    #[arg(long, hide = true)]
    pub(crate) trace: Option<bool>,
    /// path to state directory
    #[arg(long)]
    pub(crate) root: Option<PathBuf>,
    /// listening address (socket or tcp)
    #[arg(long)]
    pub(crate) addr: Vec<String>,
    /// log formatter: json or text
    #[arg(long)]
    pub(crate) log_format: Option<String>,
    /// set the log level
    #[arg(long, env = "BUILDKITD_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,
    /// group (name or gid) which will own all Unix socket listening addresses
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// debugging address (eg. 0.0.0.0:6060)
    #[arg(long, env = "BUILDKITD_DEBUGADDR")]
    pub(crate) debugaddr: Option<String>,
    /// certificate file to use
    #[arg(long)]
    pub(crate) tlscert: Option<String>,
    /// key file to use
    #[arg(long)]
    pub(crate) tlskey: Option<String>,
    /// ca certificate to verify clients
    #[arg(long)]
    pub(crate) tlscacert: Option<String>,
    /// allows insecure entitlements e.g. network.host, security.insecure, device
    #[arg(long)]
    pub(crate) allow_insecure_entitlement: Vec<String>,
    /// enable proxy network enforcement for all builds
    #[arg(long)]
    pub(crate) proxy_network: Option<bool>,
    /// OTEL collector trace socket path
    #[arg(long)]
    pub(crate) otel_socket_path: Option<String>,
    /// disables support of the Container Device Interface (CDI)
    #[arg(long)]
    pub(crate) cdi_disabled: Option<bool>,
    /// list of directories to scan for CDI spec files
    #[arg(long)]
    pub(crate) cdi_spec_dir: Vec<String>,
    /// enable saving cache debug info
    #[arg(long)]
    pub(crate) save_cache_debug: bool,
    /// set all the default options to be compatible with rootless containers
    #[arg(long)]
    pub(crate) rootless: Option<bool>,

    /// enable oci workers (true/false/auto)
    #[arg(long)]
    pub(crate) oci_worker: Option<String>,
    /// user-specific annotation labels (com.example.foo=bar)
    #[arg(long)]
    pub(crate) oci_worker_labels: Vec<String>,
    /// name of snapshotter (overlayfs or native)
    #[arg(long)]
    pub(crate) oci_worker_snapshotter: Option<String>,
    /// address of proxy snapshotter socket (do not include 'unix://' prefix)
    #[arg(long)]
    pub(crate) oci_worker_proxy_snapshotter_path: Option<String>,
    /// override supported platforms for worker
    #[arg(long)]
    pub(crate) oci_worker_platform: Vec<String>,
    /// worker network type (auto, bridge, cni or host)
    #[arg(long)]
    pub(crate) oci_worker_net: Option<String>,
    /// path of cni config file
    #[arg(long)]
    pub(crate) oci_cni_config_path: Option<String>,
    /// path of cni binary files
    #[arg(long)]
    pub(crate) oci_cni_binary_dir: Option<String>,
    /// size of cni network namespace pool
    #[arg(long)]
    pub(crate) oci_cni_pool_size: Option<i64>,
    /// name of specified oci worker binary
    #[arg(long)]
    pub(crate) oci_worker_binary: Option<String>,
    /// set the name of the apparmor profile applied to containers
    #[arg(long)]
    pub(crate) oci_worker_apparmor_profile: Option<String>,
    /// apply SELinux labels
    #[arg(long)]
    pub(crate) oci_worker_selinux: Option<bool>,
    /// maximum number of parallel build steps that can be run at the same time
    #[arg(long)]
    pub(crate) oci_max_parallelism: Option<i64>,
    /// enable rootless mode
    #[arg(long)]
    pub(crate) oci_worker_rootless: Option<bool>,
    /// use the host PID namespace and procfs (WARNING: allows build containers to kill (and potentially ptrace) an
    /// arbitrary process in the host namespace)
    #[arg(long)]
    pub(crate) oci_worker_no_process_sandbox: Option<bool>,
    /// enable automatic garbage collection on worker
    #[arg(long)]
    pub(crate) oci_worker_gc: Option<bool>,
    #[arg(long, help = "amount of storage GC keep locally, format \"Reserved[,Free[,Maximum]]\" (MB)")]
    pub(crate) oci_worker_gc_keepstorage: Option<String>,

    /// enable containerd workers (true/false/auto)
    #[arg(long)]
    pub(crate) containerd_worker: Option<String>,
    /// containerd socket
    #[arg(long)]
    pub(crate) containerd_worker_addr: Option<String>,
    /// user-specific annotation labels (com.example.foo=bar)
    #[arg(long)]
    pub(crate) containerd_worker_labels: Vec<String>,
    /// override containerd namespace
    #[arg(long, hide = true)]
    pub(crate) containerd_worker_namespace: Option<String>,
    /// override containerd runtime
    #[arg(long, hide = true)]
    pub(crate) containerd_worker_runtime: Option<String>,
    /// override supported platforms for worker
    #[arg(long, hide = true)]
    pub(crate) containerd_worker_platform: Vec<String>,
    /// worker network type (auto, bridge, cni or host)
    #[arg(long)]
    pub(crate) containerd_worker_net: Option<String>,
    /// snapshotter name to use
    #[arg(long)]
    pub(crate) containerd_worker_snapshotter: Option<String>,
    /// set the name of the apparmor profile applied to containers
    #[arg(long)]
    pub(crate) containerd_worker_apparmor_profile: Option<String>,
    /// apply SELinux labels
    #[arg(long)]
    pub(crate) containerd_worker_selinux: Option<bool>,
    /// enable rootless mode
    #[arg(long)]
    pub(crate) containerd_worker_rootless: Option<bool>,
    /// enable automatic garbage collection on worker
    #[arg(long)]
    pub(crate) containerd_worker_gc: Option<bool>,
    #[arg(long, help = "amount of storage GC keep locally, format \"Reserved[,Free[,Maximum]]\" (MB)")]
    pub(crate) containerd_worker_gc_keepstorage: Option<String>,
    /// path of cni config file
    #[arg(long)]
    pub(crate) containerd_cni_config_path: Option<String>,
    /// path of cni binary files
    #[arg(long)]
    pub(crate) containerd_cni_binary_dir: Option<String>,
    /// size of cni network namespace pool
    #[arg(long)]
    pub(crate) containerd_cni_pool_size: Option<i64>,
    /// maximum number of parallel build steps that can be run at the same time
    #[arg(long)]
    pub(crate) containerd_max_parallelism: Option<i64>,

    #[command(flatten)]
    pub(crate) profile: ProfileFlags,

    /// print the version
    #[arg(long, short = 'v')]
    pub(crate) version: bool,
}
