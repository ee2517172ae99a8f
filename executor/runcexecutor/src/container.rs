//! What a container needs on disk, from before its start until nothing is left of it.

use std::path::{Path, PathBuf};

use buildkit_executor::{Error, ExecMount, Meta};
use buildkit_executor_oci::spec::Process;
use buildkit_executor_oci::{
    EtcFiles, MountStubs, PreparedMounts, SpecInput, StubKind, check_destination, check_root, generate,
    hosts_text,
};
use buildkit_executor_resources::{Cgroup, Hierarchies};
use buildkit_snapshot::Mount;
use buildkit_util_network::Join;
use buildkit_util_system::mount::{mount_tmpfs, unmount};
use buildkit_util_system::{Root, User, lookup_user, path};
use fs_err as fs;

use crate::leftover;
use crate::options::Options;

/// Mount points that the runtime covers, so that nothing below them is in the root file system.
const COVERED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Directories of an executor, and what is known of the kernel.
#[derive(Debug)]
pub(crate) struct Places {
    /// Bundles by container id.
    pub bundles: PathBuf,
    /// State of the runtime.
    pub state: PathBuf,
    /// Whether the kernel runs programs for x32.
    pub x32: bool,
}

/// A container that is ready to start, or has run.
#[derive(Debug)]
pub(crate) struct Container {
    pub id: String,
    pub bundle: PathBuf,
    pub private: Private,
    pub rootfs: PathBuf,
    pub process: Process,
    pub cgroup: Cgroup,
    mounts: PreparedMounts,
    stubs: MountStubs,
    recursive_stubs: bool,
    state: PathBuf,
}

/// Where descriptions of processes are written, which have their environment: the bundle, or a file system in memory
/// in it, which is unmounted in the end, if that holds secrets.
#[derive(Debug)]
pub(crate) struct Private {
    path: PathBuf,
    is_mounted: bool,
}

impl Private {
    /// The name in a bundle.
    const NAME: &str = "private";

    fn new(bundle: &Path, has_secrets: bool) -> Result<Self, Error> {
        if !has_secrets {
            return Ok(Self { path: bundle.to_owned(), is_mounted: false });
        }
        let path = bundle.join(Self::NAME);
        fs::create_dir(&path).map_err(io("create a directory for secrets"))?;
        mount_tmpfs(&path, &["mode=0700".to_owned()]).map_err(system("mount a file system for secrets"))?;
        Ok(Self { path, is_mounted: true })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what the runtime looks for in the bundle under this name.
    fn write(&self, bundle: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
        let failed = || io("write the configuration of the container");
        fs::write(self.path.join(name), content).map_err(failed())?;
        if self.is_mounted {
            let target = Path::new(Self::NAME).join(name);
            fs::os::unix::fs::symlink(target, bundle.join(name)).map_err(failed())?;
        }
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = unmount(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "secrets stay in memory until the next start");
        }
    }
}

/// What is left to know of a container that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remains {
    pub oom_killed: bool,
}

fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let action = action.into();
    move |source| Error::Io { action, source }
}

fn system(action: impl Into<String>) -> impl FnOnce(buildkit_util_system::Error) -> Error {
    let action = action.into();
    move |error| Error::Io { action, source: error.into() }
}

impl Container {
    /// Makes the bundle of a container. When it fails, nothing of it is left.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request and of the executor")]
    pub(crate) fn prepare(
        id: &str,
        root: &Mount,
        exec_mounts: &[ExecMount],
        meta: &Meta,
        network: &Join,
        options: &Options,
        places: &Places,
        etc: &EtcFiles,
        hierarchies: &Hierarchies,
    ) -> Result<Self, Error> {
        let bundle = places.bundles.join(id);
        fs::create_dir(&bundle).map_err(io(format!("create the bundle of the container `{id}`")))?;
        let mut unfinished =
            Unfinished { bundle: Some(bundle.clone()), private: None, mounts: None, stubs: None };
        let private = Private::new(&bundle, meta.has_secret_env)?;
        let private = unfinished.private.insert(private);
        let mounts = unfinished.mounts.insert(PreparedMounts::new(bundle.join("mounts")));

        let rootfs = mounts.root(root)?;
        let confined = Root::open(&rootfs).map_err(system("open the root file system"))?;
        check_root(&confined)?;
        let user = lookup_user(&confined, &meta.user).map_err(|error| Error::Invalid(error.to_string()))?;

        let mut spec_mounts = Vec::with_capacity(exec_mounts.len());
        let mut points =
            vec![("/etc/resolv.conf".to_owned(), StubKind::File), ("/etc/hosts".to_owned(), StubKind::File)];
        for exec in exec_mounts {
            let dest = check_destination(&confined, &meta.cwd, &exec.dest)?;
            let (mount, kind) = mounts.prepare(exec, &dest)?;
            points.push((dest, kind));
            spec_mounts.push(mount);
        }
        let hosts = if meta.extra_hosts.is_empty() && meta.hostname.is_empty() {
            etc.hosts()
        } else {
            let file = bundle.join("hosts");
            fs::write(&file, hosts_text(&meta.hostname, &meta.extra_hosts))
                .map_err(io("write the hosts file"))?;
            set_mode(&file, 0o644)?;
            file
        };
        let spec = generate(SpecInput {
            id,
            meta,
            user: &user,
            rootfs: &rootfs,
            readonly_root: root.readonly,
            mounts: spec_mounts,
            resolv_conf: &etc.resolv_conf(*network == Join::Host)?,
            hosts: &hosts,
            network,
            cgroup_parent: &options.cgroup_parent,
            apparmor_profile: options.apparmor_profile.as_deref(),
            pids_limit: options.pids_limit,
            oom_score_adj: options.oom_score_adj,
            x32: places.x32,
        })?;
        let config = serde_json::to_vec(&spec).map_err(|source| Error::Other {
            action: "encode the configuration".to_owned(),
            source: source.into(),
        })?;
        private.write(&bundle, "config.json", &config)?;

        if !root.readonly {
            unfinished.stubs = Some(MountStubs::create(&confined, &points, &COVERED));
            make_cwd(&confined, &spec.process.cwd, &points, &user)?;
        }
        let (private, mounts, stubs) = unfinished.finish();
        Ok(Self {
            id: id.to_owned(),
            cgroup: Cgroup::new(hierarchies, &spec.linux.cgroups_path),
            process: spec.process,
            bundle,
            private,
            rootfs,
            mounts,
            stubs,
            recursive_stubs: meta.remove_mount_stubs_recursive,
            state: places.state.join(id),
        })
    }

    /// The file into which the runtime writes the id of the first process once it runs.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.bundle.join("pid")
    }

    /// Takes everything away: processes that are left, cgroups, runtime state, mount stubs, mounts
    /// and bundle. What cannot be taken away is logged, and tried again when the executor opens.
    pub(crate) fn finish(self) -> Remains {
        let oom_killed = self.cgroup.oom_kills() > 0;
        let ended = leftover::end(&self.cgroup);
        if !ended {
            tracing::warn!(container = self.id, "processes of the container do not end, trying on");
        }
        if let Err(error) = fs::remove_dir_all(&self.state)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(container = self.id, %error, "runtime state is left behind");
        }
        self.stubs.remove(self.recursive_stubs);
        drop(self.mounts);
        drop(self.private);
        if ended {
            remove_bundle(&self.bundle);
        } else {
            // The bundle stays as long as the cgroup: the next daemon would know of it by that.
            leftover::end_later(self.cgroup, self.bundle);
        }
        Remains { oom_killed }
    }
}

/// The working directory belongs to the user of the process. Inside a mount the runtime makes it.
fn make_cwd(root: &Root, cwd: &str, points: &[(String, StubKind)], user: &User) -> Result<(), Error> {
    let covered = |point: &str| Path::new(cwd).starts_with(point);
    if points.iter().any(|(point, _)| covered(point)) || COVERED.iter().any(|point| covered(point)) {
        return Ok(());
    }
    if root.stat(cwd).is_ok() {
        return Ok(());
    }
    let action = format!("create the working directory `{}`", path::clean(cwd));
    root.mkdir_all(cwd, 0o755, Some((user.uid, user.gid))).map(drop).map_err(system(action))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(io("write the hosts file"))
}

pub(crate) fn remove_bundle(bundle: &Path) {
    // Never through a mount that is left: the snapshot below it would be emptied.
    let removed = match buildkit_util_system::mount::mounts_below(bundle) {
        Ok(points) if points.is_empty() => fs::remove_dir_all(bundle).map_err(|error| error.to_string()),
        Ok(points) => Err(format!("{} mounts are left", points.len())),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = removed {
        tracing::warn!(bundle = %bundle.display(), error, "bundle is left behind");
    }
}

/// Takes away what there is of a container whose preparation fails.
struct Unfinished {
    bundle: Option<PathBuf>,
    private: Option<Private>,
    mounts: Option<PreparedMounts>,
    stubs: Option<MountStubs>,
}

impl Unfinished {
    fn finish(mut self) -> (Private, PreparedMounts, MountStubs) {
        let nowhere = Private { path: PathBuf::new(), is_mounted: false };
        let private = self.private.take().unwrap_or(nowhere);
        let mounts = self.mounts.take().unwrap_or_else(|| PreparedMounts::new(PathBuf::new()));
        self.bundle = None;
        (private, mounts, self.stubs.take().unwrap_or_default())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(stubs) = self.stubs.take() {
            stubs.remove(true);
        }
        drop(self.mounts.take());
        drop(self.private.take());
        if let Some(bundle) = self.bundle.take() {
            remove_bundle(&bundle);
        }
    }
}
