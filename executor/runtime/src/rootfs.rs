//! The tree of mounts that a container sees.
//!
//! Images and users of cache mounts are not trusted with any path in it, also while other containers change the same
//! directories: a place is found once, inside the root, as a descriptor, and mounts are moved onto descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use buildkit_util_system::{CreateFile, Handle, Root};
use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::config::{Config, Device, Mount, NamespaceKind};
use crate::error::{Context, Error};
use crate::options::MountOptions;
use crate::sys;

/// Nodes that each container has: name, major and minor number.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Types of sysfs and of control groups, from `linux/magic.h`.
pub(crate) const KERNEL: [u64; 3] = [0x6265_6572, 0x0027_e0eb, 0x6367_7270];

/// Numbers of `/dev/null`.
const NULL: (u32, u32) = (1, 3);

/// Mode of directories and files that are made to mount on.
const POINT: u32 = 0o755;

/// A control group of version 1 as a container sees it.
#[derive(Clone, Debug)]
pub(crate) struct CgroupView {
    /// Name of the directory, such as `cpu,cpuacct`.
    pub name: String,
    /// Directory of the group.
    pub directory: PathBuf,
}

/// The root of a container in this process' mount namespace, until it is [entered](Self::enter).
#[derive(Debug)]
pub(crate) struct RootFs {
    root: Root,
    /// Mounts that take no files any more once all mounts are there.
    readonly_later: Vec<OwnedFd>,
    /// The kernel's own file systems, by their destinations: what is in them is looked up below them, wherever somebody
    /// moves the directories that they lie on.
    kernel: Vec<(PathBuf, Root)>,
}

impl RootFs {
    /// Shows the tree at `path` as a mount of its own. What is mounted from now on stays in this namespace.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", slave).context("keep mounts to the container")?;
        let action = format!("mount the root file system `{}`", path.display());
        let tree = rustix::mount::open_tree(CWD, path, clone_flags(true)).context(&action)?;
        rustix::mount::move_mount(tree.as_fd(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .context(&action)?;
        Ok(Self { root: Root::from_fd(tree), readonly_later: Vec::new(), kernel: Vec::new() })
    }

    /// Makes all mounts, nodes and links of a container.
    pub(crate) fn fill(&mut self, config: &Config, cgroups: &[CgroupView]) -> Result<(), Error> {
        for mount in &config.mounts {
            let action = || format!("mount `{}` at `{}`", mount.kind, mount.destination.display());
            self.mount(config, mount, cgroups).map_err(|error| error.context(action()))?;
        }
        // Whoever brings a directory of devices answers for what is in it.
        let brings_dev = |mount: &Mount| {
            mount.destination == Path::new("/dev") && MountOptions::parse(&mount.options).bind
        };
        if !config.mounts.iter().any(brings_dev) {
            self.fill_dev(&config.linux.devices)?;
        }
        Ok(())
    }

    fn mount(&mut self, config: &Config, mount: &Mount, cgroups: &[CgroupView]) -> Result<(), Error> {
        let options = MountOptions::parse(&mount.options);
        if options.bind || mount.kind == "bind" {
            return self.bind(mount, &options);
        }
        match mount.kind.as_str() {
            "cgroup" if cgroups.is_empty() => self.mount_new("cgroup2", mount, &options),
            "cgroup" if config.namespace(NamespaceKind::Cgroup).is_some() => {
                Err(Error::new("groups of version 1 and a namespace for them do not go together"))
            }
            "cgroup" => self.mount_cgroups(mount, &options, cgroups),
            "overlay" => self.mount_overlay(mount, &options),
            kind => self.mount_new(kind, mount, &options),
        }
    }

    /// The place for a mount, made if it is missing, and whether it was.
    fn point(&self, path: &Path, is_dir: bool) -> Result<(Handle, bool), Error> {
        let mut is_new = false;
        let point = match self.root.resolve(path) {
            Ok(point) => point,
            Err(error) if error.is_not_found() => {
                is_new = true;
                if is_dir {
                    self.root.mkdir_all(path, POINT, None)?;
                } else {
                    self.root.mkdir_all(path.parent().unwrap_or(Path::new("/")), POINT, None)?;
                    self.root.create_file(path, POINT, CreateFile::New)?;
                }
                self.root.resolve(path)?
            }
            Err(error) => return Err(error.into()),
        };
        // A part of it that is hidden or replaced would disarm what guards the rest, also by way of a link that another
        // container has put into a directory that both have.
        let kind = rustix::fs::fstatfs(&point)?.f_type;
        if kind == PROC_SUPER_MAGIC {
            return Err(Error::new("nothing can be mounted inside /proc"));
        }
        if KERNEL.contains(&kind.cast_unsigned()) && !path.starts_with("/sys") {
            return Err(Error::new("nothing can be mounted inside /sys"));
        }
        if point.stat()?.same_inode(&self.root.stat("/")?) {
            return Err(Error::new("nothing can be mounted on the root directory"));
        }
        Ok((point, is_new))
    }

    fn bind(&self, mount: &Mount, options: &MountOptions) -> Result<(), Error> {
        if let Some(option) = options.data.first() {
            return Err(Error::new(format!("unknown mount option {option:?}")));
        }
        let tree = rustix::mount::open_tree(CWD, &mount.source, clone_flags(options.recursive))
            .context(format_args!("open `{}`", mount.source.display()))?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode);
        let (point, _) = self.point(&mount.destination, kind == FileType::Directory)?;
        if !options.attributes.is_empty() || options.sets_atime {
            sys::mount_setattr(tree.as_fd(), options.attributes, options.cleared(), 0, false)?;
        }
        attach(tree.as_fd(), &point)?;
        propagate(tree.as_fd(), options)
    }

    fn mount_new(&mut self, kind: &str, mount: &Mount, options: &MountOptions) -> Result<(), Error> {
        let is_kernel = matches!(kind, "proc" | "sysfs");
        if is_kernel {
            // A link would have what guards them lie elsewhere.
            match self.root.lstat(&mount.destination) {
                Ok(stat) if !stat.is_dir() => return Err(Error::new("it is mounted on directories only")),
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        let (point, is_new) = self.point(&mount.destination, true)?;
        let filesystem = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        if !mount.source.as_os_str().is_empty() {
            rustix::mount::fsconfig_set_string(filesystem.as_fd(), "source", &mount.source)?;
        }
        if kind == "tmpfs" && !is_new {
            // Who may enter stays as it is; options that follow may say otherwise.
            let mode = format!("{:04o}", point.stat()?.permissions());
            rustix::mount::fsconfig_set_string(filesystem.as_fd(), "mode", mode)?;
        }
        for option in &options.data {
            match option.split_once('=') {
                Some((key, value)) => {
                    rustix::mount::fsconfig_set_string(filesystem.as_fd(), key, value).context(option)?;
                }
                None => {
                    rustix::mount::fsconfig_set_flag(filesystem.as_fd(), option.as_str()).context(option)?;
                }
            }
        }
        rustix::mount::fsconfig_create(filesystem.as_fd())?;
        let mut attributes = options.attributes;
        // Others are mounted inside it.
        let later = kind == "tmpfs" && attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
        if later {
            attributes.remove(MountAttrFlags::MOUNT_ATTR_RDONLY);
        }
        let made = rustix::mount::fsmount(filesystem.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        attach(made.as_fd(), &point)?;
        propagate(made.as_fd(), options)?;
        if later {
            self.readonly_later.push(made);
        } else if is_kernel {
            self.kernel.push((mount.destination.clone(), Root::from_fd(made)));
        }
        Ok(())
    }

    /// By mount(2): its data may be longer than what one string of fsconfig(2) takes.
    fn mount_overlay(&self, mount: &Mount, options: &MountOptions) -> Result<(), Error> {
        let (point, _) = self.point(&mount.destination, true)?;
        let mut flags = MountFlags::empty();
        for (attribute, flag) in [
            (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
            (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
            (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
            (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        ] {
            flags.set(flag, options.attributes.contains(attribute));
        }
        let target = format!("/proc/self/fd/{}", point.as_fd().as_raw_fd());
        let data = std::ffi::CString::new(options.data_text()?)
            .map_err(|_| Error::new("mount options have a zero byte"))?;
        rustix::mount::mount(&mount.source, target.as_str(), "overlay", flags, Some(data.as_c_str()))?;
        if options.propagation.is_empty() {
            return Ok(());
        }
        // The handle is of what lies below the mount.
        propagate(self.root.resolve(&mount.destination)?.as_fd(), options)
    }

    /// The groups of the container, in a directory for each hierarchy of version 1.
    fn mount_cgroups(
        &mut self,
        mount: &Mount,
        options: &MountOptions,
        cgroups: &[CgroupView],
    ) -> Result<(), Error> {
        let strict = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let readonly = options.attributes & MountAttrFlags::MOUNT_ATTR_RDONLY;
        let tmpfs = Mount { kind: "tmpfs".into(), source: "tmpfs".into(), ..mount.clone() };
        let all = MountOptions {
            attributes: strict | readonly,
            data: vec!["mode=755".into()],
            propagation: options.propagation.clone(),
            ..MountOptions::default()
        };
        self.mount_new("tmpfs", &tmpfs, &all)?;
        let directory = self.root.sub_root(&mount.destination)?;
        for CgroupView { name, directory: group } in cgroups {
            let tree = match rustix::mount::open_tree(CWD, group, clone_flags(true)) {
                Err(Errno::NOENT) => continue,
                tree => tree.context(format_args!("open `{}`", group.display()))?,
            };
            directory.mkdir(name, POINT, None)?;
            sys::mount_setattr(tree.as_fd(), strict | readonly, 0, 0, true)?;
            attach(tree.as_fd(), &directory.resolve(name)?)?;
            for alias in name.split(',').filter(|alias| alias != name) {
                directory.symlink(name, alias)?;
            }
        }
        Ok(())
    }

    fn fill_dev(&self, devices: &[Device]) -> Result<(), Error> {
        const DEV: &str = "/dev";
        match self.root.lstat(DEV) {
            Ok(stat) if stat.is_dir() => {}
            Ok(_) => return Err(Error::new("`/dev` of the root file system is no directory")),
            Err(error) if error.is_not_found() => self.root.mkdir(DEV, POINT, None)?,
            Err(error) => return Err(error.into()),
        }
        let dev = self.root.sub_root(DEV)?;
        for (name, major, minor) in NODES {
            node(&dev, Path::new(name), FileType::CharacterDevice, (major, minor), 0o666, (0, 0))?;
        }
        for device in devices {
            let kind = match device.kind.as_str() {
                "c" | "u" => FileType::CharacterDevice,
                "b" => FileType::BlockDevice,
                "p" => FileType::Fifo,
                kind => return Err(Error::new(format!("unknown kind of device {kind:?}"))),
            };
            self.root.mkdir_all(device.path.parent().unwrap_or(Path::new("/")), POINT, None)?;
            let mode = device.file_mode.unwrap_or(0o666);
            let number = (device.major, device.minor);
            node(&self.root, &device.path, kind, number, mode, (device.uid, device.gid))?;
        }
        let mut links = vec![
            ("/proc/self/fd", "fd"),
            ("/proc/self/fd/0", "stdin"),
            ("/proc/self/fd/1", "stdout"),
            ("/proc/self/fd/2", "stderr"),
        ];
        if self.root.stat("/proc/kcore").is_ok() {
            links.push(("/proc/kcore", "core"));
        }
        for (target, name) in links {
            match dev.symlink(target, name) {
                Err(error) if error.io_kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        match dev.remove("ptmx") {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(dev.symlink("pts/ptmx", "ptmx")?),
        }
    }

    /// Makes the directory in which the process starts, where that is possible: what stands in the way is for the
    /// process to meet.
    pub(crate) fn make_working_directory(&self, path: &Path) {
        let _ = self.root.mkdir_all(path, POINT, None);
    }

    /// Lets nothing be written any more that is not to be, and hides what is not to be seen.
    pub(crate) fn seal(&mut self, config: &Config) -> Result<(), Error> {
        for mount in self.readonly_later.drain(..) {
            sys::mount_setattr(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, 0, 0, false)?;
        }
        for path in &config.linux.readonly_paths {
            self.make_readonly(path).context(format_args!("make `{}` read-only", path.display()))?;
        }
        if !config.linux.masked_paths.is_empty() {
            let null = self.null()?;
            for path in &config.linux.masked_paths {
                self.mask(path, null.as_fd()).context(format_args!("mask `{}`", path.display()))?;
            }
        }
        if config.root.readonly {
            sys::mount_setattr(self.root.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, 0, 0, false)
                .context("make the root file system read-only")?;
        }
        Ok(())
    }

    /// What a path leads to, unless there is nothing.
    fn existing(&self, path: &Path) -> Result<Option<Handle>, Error> {
        let below =
            self.kernel.iter().rev().find_map(|(top, root)| Some((root, path.strip_prefix(top).ok()?)));
        let (root, path) = below.unwrap_or((&self.root, path));
        match root.resolve(path) {
            Ok(handle) => Ok(Some(handle)),
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The container's device that swallows everything. What an image or another container has put in its place hides
    /// nothing, or shows something else (CVE-2025-31133).
    fn null(&self) -> Result<Handle, Error> {
        const NULL_DEVICE: &str = "/dev/null";
        let null = self.root.resolve_no_follow(NULL_DEVICE).context("mask paths")?;
        if is_null(null.as_fd())? {
            Ok(null)
        } else {
            Err(Error::new(format!("`{NULL_DEVICE}` is no null device")))
        }
    }

    fn make_readonly(&self, path: &Path) -> Result<(), Error> {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        let flags = clone_flags(true) | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(place.as_fd(), "", flags)?;
        sys::mount_setattr(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, 0, 0, true)?;
        attach(tree.as_fd(), &place)
    }

    fn mask(&self, path: &Path, null: BorrowedFd<'_>) -> Result<(), Error> {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        let cover = if place.stat()?.is_dir() {
            let filesystem = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_set_string(filesystem.as_fd(), "source", "tmpfs")?;
            rustix::mount::fsconfig_set_flag(filesystem.as_fd(), "ro")?;
            rustix::mount::fsconfig_create(filesystem.as_fd())?;
            let readonly = MountAttrFlags::MOUNT_ATTR_RDONLY;
            rustix::mount::fsmount(filesystem.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, readonly)?
        } else {
            let flags = clone_flags(false) | OpenTreeFlags::AT_EMPTY_PATH;
            rustix::mount::open_tree(null, "", flags)?
        };
        attach(cover.as_fd(), &place)
    }

    /// Shows an open file at a path in `/dev`, which is made new.
    pub(crate) fn show_in_dev(&self, file: BorrowedFd<'_>, name: &str) -> Result<(), Error> {
        let dev = self.root.sub_root("/dev")?;
        match dev.create_file(name, 0o600, CreateFile::New) {
            Err(error) if error.io_kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let flags = clone_flags(false) | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(file, "", flags)?;
        attach(tree.as_fd(), &dev.resolve_no_follow(name)?)
    }

    /// The root, to find more in it.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Makes it the root of this process. Nothing else is reachable by any path afterwards.
    ///
    /// Where the machine's root cannot be moved away, such as the first one after a start from memory, `pivot` is false:
    /// it is covered then.
    pub(crate) fn enter(self, pivot: bool) -> Result<(), Error> {
        rustix::process::fchdir(self.root.as_fd()).context("enter the root file system")?;
        if pivot {
            // The old root comes to lie over the new one, at the same place.
            rustix::process::pivot_root(".", ".").context("change the root file system")?;
            rustix::mount::unmount(".", UnmountFlags::DETACH)
                .context("leave the file systems of the machine")?;
        } else {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(self.root.as_fd(), "", CWD, "/", flags)
                .context("cover the root file system")?;
            rustix::process::chroot(".").context("change the root file system")?;
        }
        rustix::process::chdir("/").context("enter the root file system")
    }
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let all = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | all
}

fn attach(mount: BorrowedFd<'_>, point: &Handle) -> Result<(), Error> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", point.as_fd(), "", flags)?)
}

fn propagate(mount: BorrowedFd<'_>, options: &MountOptions) -> Result<(), Error> {
    for (propagation, recursive) in &options.propagation {
        sys::mount_setattr(mount, MountAttrFlags::empty(), 0, *propagation, *recursive)?;
    }
    Ok(())
}

/// Makes a node unless there is something already.
fn node(
    root: &Root,
    path: &Path,
    kind: FileType,
    (major, minor): (u32, u32),
    mode: u32,
    (uid, gid): (u32, u32),
) -> Result<(), Error> {
    let action = || format!("make the device `{}`", path.display());
    let (kind, number) = match kind {
        FileType::BlockDevice => (buildkit_util_system::FileKind::BlockDevice, (major, minor)),
        FileType::Fifo => (buildkit_util_system::FileKind::Fifo, (0, 0)),
        _ => (buildkit_util_system::FileKind::CharDevice, (major, minor)),
    };
    match root.mknod(path, kind, mode, number) {
        Err(error) if error.io_kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.context(action())?,
    }
    if (uid, gid) != (0, 0) {
        root.resolve_no_follow(path).and_then(|node| node.chown(uid, gid)).context(action())?;
    }
    Ok(())
}

/// Whether a file is the device that swallows everything.
pub(crate) fn is_null(file: BorrowedFd<'_>) -> Result<bool, Error> {
    let stat = rustix::fs::fstat(file)?;
    let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && number == NULL)
}

/// Replaces standard streams that are the machine's `/dev/null` by the container's: a file of the machine leads to its
/// file systems.
pub(crate) fn reopen_null(root: &Root) -> Result<(), Error> {
    let mut own = None;
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        if !is_null(stream)? {
            continue;
        }
        if own.is_none() {
            let handle = match root.resolve_no_follow("/dev/null") {
                Ok(handle) => handle,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if !is_null(handle.as_fd())? {
                return Ok(());
            }
            let path = format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd());
            own = Some(rustix::fs::open(path.as_str(), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?);
        }
        let Some(own) = &own else { continue };
        match stream.as_raw_fd() {
            0 => rustix::stdio::dup2_stdin(own)?,
            1 => rustix::stdio::dup2_stdout(own)?,
            _ => rustix::stdio::dup2_stderr(own)?,
        }
    }
    Ok(())
}
