use std::path::{Path, PathBuf};

use buildkit_executor::{ContainerMount, Error, ExecMount};
use buildkit_snapshot::{Mount, MountKind, forget_volatile};
use buildkit_util_system::mount::{Overlay, mount_handle, mount_overlay, mount_tmpfs, unmount};
use buildkit_util_system::{Root, path};
use fs_err as fs;

use crate::spec::SpecMount;
use crate::stubs::StubKind;

/// Options longer than this do not fit into the one page that the kernel takes.
const MAX_OPTIONS: usize = 4096 - 512;

/// Turns mounts of a request into mounts of a specification. What the runtime cannot do itself, such
/// as a path inside an overlay, is mounted in a private directory first; dropping this unmounts it.
#[derive(Debug)]
pub struct PreparedMounts {
    directory: PathBuf,
    /// Mount points in the order in which they were made.
    mounted: Vec<PathBuf>,
    /// Work directories of overlays that are not written to disk at their end.
    volatile: Vec<PathBuf>,
}

impl PreparedMounts {
    /// Mounts in `directory`, which is made when it is needed. Its owner removes it.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, mounted: Vec::new(), volatile: Vec::new() }
    }

    /// The mount for the runtime and what its mount point has to be. `dest` is checked already.
    pub fn prepare(&mut self, exec: &ExecMount, dest: &str) -> Result<(SpecMount, StubKind), Error> {
        let access = |readonly: bool| if readonly { "ro" } else { "rw" };
        match &exec.source {
            ContainerMount::Tmpfs { size } => {
                let mut options = vec!["nosuid".to_owned(), access(exec.readonly).to_owned()];
                if *size > 0 {
                    options.push(format!("size={size}"));
                }
                Ok((spec_mount(dest, "tmpfs", Path::new("tmpfs"), options)?, StubKind::Tmpfs))
            }
            ContainerMount::Host { path } => {
                let mut options = vec!["rbind", access(exec.readonly), "nosuid", "nodev"];
                if !is_executable(path) {
                    options.push("noexec");
                }
                let options = options.into_iter().map(str::to_owned).collect();
                Ok((spec_mount(dest, "bind", path, options)?, StubKind::of(path)))
            }
            ContainerMount::Snapshot { mount, selector } => {
                let readonly = exec.readonly || mount.readonly;
                let selector = path::rooted(selector);
                let source = match &mount.kind {
                    _ if selector != "/" => self.select(mount, &selector, dest)?,
                    MountKind::Bind => mount.source.clone(),
                    MountKind::Overlay { .. } => {
                        if let Some(options) = overlay_options(mount, readonly) {
                            let mount = spec_mount(dest, "overlay", Path::new("overlay"), options)?;
                            return Ok((mount, StubKind::Directory));
                        }
                        self.mount_whole(mount, dest)?
                    }
                    MountKind::Tmpfs { options } => {
                        let mut options = options.clone();
                        options.extend([
                            "nosuid".to_owned(),
                            "nodev".to_owned(),
                            access(readonly).to_owned(),
                        ]);
                        return Ok((
                            spec_mount(dest, "tmpfs", Path::new("tmpfs"), options)?,
                            StubKind::Directory,
                        ));
                    }
                };
                let options = vec!["rbind".to_owned(), access(readonly).to_owned()];
                Ok((spec_mount(dest, "bind", &source, options)?, StubKind::of(&source)))
            }
        }
    }

    /// Mounts a path inside a source. The handle that was found is what is mounted: nobody who
    /// renames or links in the source meanwhile can make it anything else.
    fn select(&mut self, mount: &Mount, selector: &str, dest: &str) -> Result<PathBuf, Error> {
        let whole = match mount.kind {
            MountKind::Bind => mount.source.clone(),
            _ => self.mount_whole(mount, dest)?,
        };
        let io = |error: buildkit_util_system::Error| Error::Io {
            action: format!("mount `{selector}` at `{dest}`"),
            source: error.into(),
        };
        let handle = Root::open(&whole).and_then(|root| root.resolve(selector)).map_err(io)?;
        let kind = if handle.stat().map_err(io)?.is_dir() { StubKind::Directory } else { StubKind::File };
        let point = self.point(kind)?;
        mount_handle(&handle, &point, false).map_err(io)?;
        self.mounted.push(point.clone());
        Ok(point)
    }

    fn mount_whole(&mut self, mount: &Mount, dest: &str) -> Result<PathBuf, Error> {
        let point = self.point(StubKind::Directory)?;
        if self.mount_volatile(mount, &point) {
            return Ok(point);
        }
        mount_at(mount, &point).map_err(|error| Error::Io {
            action: format!("mount the source for `{dest}`"),
            source: error.into(),
        })?;
        self.mounted.push(point.clone());
        Ok(point)
    }

    /// Mounts an overlay that is written to so that its end does not wait until all of the file system is
    /// on disk: what a step wrote can be made again. Linux before 5.10 does not know that.
    fn mount_volatile(&mut self, mount: &Mount, point: &Path) -> bool {
        let MountKind::Overlay { lower, upper, work: Some(work), options } = &mount.kind else {
            return false;
        };
        if mount.readonly {
            return false;
        }
        forget_volatile(work);
        let volatile = Mount {
            kind: MountKind::Overlay {
                lower: lower.clone(),
                upper: upper.clone(),
                work: Some(work.clone()),
                options: [options.as_slice(), &["volatile".to_owned()]].concat(),
            },
            ..mount.clone()
        };
        if mount_at(&volatile, point).is_err() {
            return false;
        }
        self.mounted.push(point.to_owned());
        self.volatile.push(work.clone());
        true
    }

    fn point(&self, kind: StubKind) -> Result<PathBuf, Error> {
        let point = self.directory.join(self.mounted.len().to_string());
        let made = fs::create_dir_all(&self.directory).and_then(|()| match kind {
            StubKind::Directory | StubKind::Tmpfs => fs::create_dir(&point),
            StubKind::File => fs::File::create_new(&point).map(drop),
        });
        made.map_err(|source| Error::Io {
            action: format!("create the mount point `{}`", point.display()),
            source,
        })?;
        Ok(point)
    }
}

impl Drop for PreparedMounts {
    fn drop(&mut self) {
        for point in self.mounted.iter().rev() {
            // What stays mounted is found and unmounted when the executor opens again.
            let _ = unmount(point);
        }
        for work in &self.volatile {
            forget_volatile(work);
        }
    }
}

/// Mounts what a snapshot describes at the directory `target`, for all but bind mounts, whose
/// source can be used as it is.
pub(crate) fn mount_at(mount: &Mount, target: &Path) -> Result<(), buildkit_util_system::Error> {
    match &mount.kind {
        MountKind::Bind => buildkit_util_system::mount::mount_bind(&mount.source, target, mount.readonly),
        MountKind::Overlay { lower, upper, work, options } => {
            let overlay = Overlay {
                lower: lower.clone(),
                upper: upper.clone().zip(work.clone()),
                options: options.clone(),
                readonly: mount.readonly,
            };
            mount_overlay(&overlay, target)
        }
        MountKind::Tmpfs { options } => mount_tmpfs(target, options),
    }
}

impl PreparedMounts {
    /// A directory that shows the root file system: the source of a bind mount as it is, else a
    /// mount that lasts as long as this.
    pub fn root(&mut self, mount: &Mount) -> Result<PathBuf, Error> {
        match mount.kind {
            MountKind::Bind => Ok(mount.source.clone()),
            _ => self.mount_whole(mount, "/"),
        }
    }
}

/// Options for the runtime, unless they need more room or other words than those allow.
fn overlay_options(mount: &Mount, readonly: bool) -> Option<Vec<String>> {
    let MountKind::Overlay { lower, upper, work, options } = &mount.kind else { return None };
    let text =
        |path: &PathBuf| path.to_str().filter(|path| !path.contains([',', ':', '\\'])).map(str::to_owned);
    let lower: Vec<String> = lower.iter().map(text).collect::<Option<_>>()?;
    let mut result = vec![format!("lowerdir={}", lower.join(":"))];
    if let (Some(upper), Some(work)) = (upper, work) {
        result.push(format!("upperdir={}", text(upper)?));
        result.push(format!("workdir={}", text(work)?));
    }
    result.extend(options.iter().cloned());
    if options.iter().any(|option| option.contains(','))
        || result.iter().map(|o| o.len() + 1).sum::<usize>() > MAX_OPTIONS
    {
        return None;
    }
    result.push(if readonly { "ro" } else { "rw" }.to_owned());
    Some(result)
}

/// Whether the caller has made a file of the host for execution.
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn spec_mount(dest: &str, kind: &str, source: &Path, options: Vec<String>) -> Result<SpecMount, Error> {
    let source = source
        .to_str()
        .ok_or_else(|| Error::Invalid(format!("Path `{}` is not valid UTF-8", source.display())))?;
    Ok(SpecMount { destination: dest.to_owned(), kind: kind.to_owned(), source: source.to_owned(), options })
}
