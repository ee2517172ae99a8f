//! What a container needs on disk, from before its start until nothing is left of it.

use std::path::{Path, PathBuf};

use buildkit_executor::{Error, ExecMount, Meta};
use buildkit_executor_oci::spec::Process;
use buildkit_executor_oci::{
    EtcFiles, MountStubs, PreparedMounts, SpecInput, StubKind, check_destination, check_root, generate,
    hosts_text, runs_x32,
};
use buildkit_executor_resources::{Cgroup, Hierarchies};
use buildkit_snapshot::Mount;
use buildkit_util_network::Join;
use buildkit_util_system::mount::{mount_memory, mounts_below, unmount};
use buildkit_util_system::{FileKind, Root, User, lookup_user, path};
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
    /// For the link to the program of the runtime.
    pub runtime: PathBuf,
    /// Whether the kernel runs programs for x32.
    pub x32: bool,
    /// Holds the directories.
    _run: RunDirectory,
}

impl Places {
    /// Directories below `root`, where an executor has cleaned up with [`leftover::clean`].
    pub(crate) fn make(root: &Path) -> Result<Self, Error> {
        let run = RunDirectory::mount(root.join(RunDirectory::NAME))?;
        let below = |name: &str| {
            let directory = run.0.join(name);
            fs::create_dir(&directory).map_err(io("make a directory for containers")).map(|()| directory)
        };
        Ok(Self {
            bundles: below(RunDirectory::BUNDLES)?,
            state: below(RunDirectory::STATE)?,
            runtime: below("runtime")?,
            x32: runs_x32(root),
            _run: run,
        })
    }
}

/// A tmpfs with what there is of containers while they run. Secrets in the environment of a process are in its
/// description, which must go to no disk, and a disk would work for nothing on the ten files that each container makes
/// and removes. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct RunDirectory(PathBuf);

impl RunDirectory {
    /// Below the directory of an executor.
    pub(crate) const NAME: &str = "run";
    /// Bundles by container id, below this.
    pub(crate) const BUNDLES: &str = "containers";
    /// State of the runtime, below this.
    pub(crate) const STATE: &str = "state";

    fn mount(path: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&path).map_err(io("make a directory for containers"))?;
        mount_memory(&path, 0o711).map_err(system("mount a file system for containers"))?;
        Ok(Self(path))
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // By the bundles that are left, the next daemon knows of containers that did not end.
        if fs::read_dir(self.0.join(Self::BUNDLES)).is_ok_and(|mut left| left.next().is_some()) {
            return;
        }
        if let Err(error) = unmount(&self.0) {
            tracing::warn!(%error, "file system of containers is not unmounted");
        }
    }
}

/// A container that is ready to start, or has run.
#[derive(Debug)]
pub(crate) struct Container {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub process: Process,
    pub cgroup: Cgroup,
    mounts: PreparedMounts,
    stubs: MountStubs,
    recursive_stubs: bool,
    state: PathBuf,
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

/// The runtime opens the lists of users itself, and would wait without end for somebody to write into a pipe.
fn check_lists(root: &Root) -> Result<(), Error> {
    for path in ["/etc/passwd", "/etc/group"] {
        let kind = root.stat(path).map(|stat| stat.kind);
        if matches!(kind, Ok(FileKind::Fifo | FileKind::CharDevice | FileKind::BlockDevice)) {
            return Err(Error::Invalid(format!("{path} of the root file system is a pipe or a device")));
        }
    }
    Ok(())
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
        let mut unfinished = Unfinished { bundle: Some(bundle.clone()), mounts: None, stubs: None };
        let mounts = unfinished.mounts.insert(PreparedMounts::new(bundle.join("mounts")));

        let rootfs = mounts.root(root)?;
        let confined = Root::open(&rootfs).map_err(system("open the root file system"))?;
        check_root(&confined)?;
        let user = lookup_user(&confined, &meta.user).map_err(|error| Error::Invalid(error.to_string()))?;
        check_lists(&confined)?;

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
        fs::write(bundle.join("config.json"), &config)
            .map_err(io("write the configuration of the container"))?;

        if !root.readonly {
            unfinished.stubs = Some(MountStubs::create(&confined, &points, &COVERED));
            make_cwd(&confined, &spec.process.cwd, &points, &user)?;
        }
        let (mounts, stubs) = unfinished.finish();
        Ok(Self {
            id: id.to_owned(),
            cgroup: Cgroup::new(hierarchies, &spec.linux.cgroups_path),
            process: spec.process,
            bundle,
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
        // Most containers leave nothing behind, and looking for processes takes longer than this.
        let ended = self.cgroup.remove_if_empty() || leftover::end(&self.cgroup);
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
    let removed = match mounts_below(bundle) {
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
    mounts: Option<PreparedMounts>,
    stubs: Option<MountStubs>,
}

impl Unfinished {
    fn finish(mut self) -> (PreparedMounts, MountStubs) {
        let mounts = self.mounts.take().unwrap_or_else(|| PreparedMounts::new(PathBuf::new()));
        self.bundle = None;
        (mounts, self.stubs.take().unwrap_or_default())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(stubs) = self.stubs.take() {
            stubs.remove(true);
        }
        drop(self.mounts.take());
        if let Some(bundle) = self.bundle.take() {
            remove_bundle(&bundle);
        }
    }
}
