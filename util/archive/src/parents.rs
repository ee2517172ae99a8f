use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use buildkit_util_overlay::{Stack, is_overlay_xattr};
use buildkit_util_system::{Root, Timestamp};
use rustix::fs::fstat;

use crate::Error;

/// A directory that entries are put into.
pub(crate) struct Parent {
    /// Everything below it, and nothing else.
    pub root: Root,
    /// Its inode.
    pub inode: u64,
}

/// Finds the directories of entries, and makes those that are missing.
///
/// Lookups are confined to the root by the kernel. The last directory is kept open, because entries of one
/// directory follow each other.
pub(crate) struct Parents<'a> {
    root: Root,
    /// Where missing directories may be found with their metadata.
    lower: Option<&'a Stack>,
    /// Only the lower layers know what missing directories are like.
    needs_lower: bool,
    last: Option<(PathBuf, Rc<Parent>)>,
    /// Directories that were made because an entry needed them, with their times.
    made: Vec<(PathBuf, Option<(Timestamp, Timestamp)>)>,
}

impl<'a> Parents<'a> {
    /// `is_overlay` if the root is only what changes from the lower layers.
    pub(crate) fn new(root: Root, lower: Option<&'a Stack>, is_overlay: bool) -> Self {
        Self { root, lower, needs_lower: is_overlay && lower.is_none(), last: None, made: Vec::new() }
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Names may lead elsewhere now: something that is not a file was removed.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// What was made since the last call.
    pub(crate) fn take_made(&mut self) -> Vec<(PathBuf, Option<(Timestamp, Timestamp)>)> {
        std::mem::take(&mut self.made)
    }

    /// The directory at a cleaned path; symbolic links are followed within the root.
    pub(crate) fn find(&mut self, path: &Path) -> Result<Rc<Parent>, Error> {
        if let Some((last, parent)) = &self.last
            && last == path
        {
            return Ok(parent.clone());
        }
        let root = match self.root.sub_root(path) {
            Err(error) if error.is_not_found() => {
                self.make(path)?;
                self.root.sub_root(path)
            }
            found => found,
        };
        let parent = Rc::new(open(root.map_err(|error| fail("open the directory", path, error))?, path)?);
        self.last = Some((path.to_owned(), parent.clone()));
        Ok(parent)
    }

    /// The directory at a cleaned path, if it exists.
    pub(crate) fn find_existing(&self, path: &Path) -> Result<Option<Root>, Error> {
        match self.root.sub_root(path) {
            Ok(root) => Ok(Some(root)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(fail("open the directory", path, error)),
        }
    }

    /// Makes a directory and those above it, as the lower layers have them.
    fn make(&mut self, path: &Path) -> Result<(), Error> {
        if self.needs_lower {
            return Err(Error::NeedsLower(path.to_owned()));
        }
        let made = self.root.mkdir_all(path, 0o755, None).map_err(|error| fail("create", path, error))?;
        for path in made {
            let path = path.strip_prefix("/").unwrap_or(&path).to_owned();
            let times = self.copy_up(&path)?;
            self.made.push((path, times));
        }
        Ok(())
    }

    fn copy_up(&self, path: &Path) -> Result<Option<(Timestamp, Timestamp)>, Error> {
        let Some(lower) = self.lower else { return Ok(None) };
        let node = lower.lookup(path).map_err(|error| Error::io("find", path, error))?;
        let Some(source) = node.and_then(|node| node.dir.map(|_| node.path)) else { return Ok(None) };
        let target = self.root.resolve_no_follow(path).map_err(|error| fail("open", path, error))?;
        copy_metadata(&source, &target, path)
    }
}

fn open(root: Root, path: &Path) -> Result<Parent, Error> {
    let stat = fstat(root.as_fd()).map_err(|error| Error::io("read the attributes of", path, error))?;
    Ok(Parent { root, inode: stat.st_ino })
}

/// Copies owner, attributes and mode; returns the times, which are to be set when nothing changes any more.
pub(crate) fn copy_metadata(
    source: &Path,
    target: &buildkit_util_system::Handle,
    path: &Path,
) -> Result<Option<(Timestamp, Timestamp)>, Error> {
    let fail = |error| fail("copy the metadata of", path, error);
    let name = source.file_name().unwrap_or_default();
    let dir = Root::open(source.parent().unwrap_or(Path::new("/"))).map_err(fail)?;
    let source = dir.resolve_no_follow(name).map_err(fail)?;
    let stat = source.stat().map_err(fail)?;
    target.chown(stat.uid, stat.gid).map_err(fail)?;
    for name in source.list_xattrs().map_err(fail)? {
        let bytes = name.as_bytes();
        if is_overlay_xattr(bytes) || bytes.starts_with(b"trusted.") {
            continue;
        }
        if let Some(value) = source.get_xattr(&name).map_err(fail)? {
            match target.set_xattr(&name, &value) {
                Err(error) if error.errno() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {}
                set => set.map_err(fail)?,
            }
        }
    }
    if !stat.is_symlink() {
        target.chmod(stat.permissions()).map_err(fail)?;
    }
    Ok(Some((stat.atime, stat.mtime)))
}

/// An error of the system, with its number alone: the path is told already.
pub(crate) fn fail(action: &'static str, path: &Path, error: buildkit_util_system::Error) -> Error {
    let source = error.errno().map_or_else(|| error.into(), io::Error::from_raw_os_error);
    Error::io(action, path, source)
}

/// The components of a name as the root sees it: without empty ones and `.`, and `..` ends at the root.
pub(crate) fn clean(name: &[u8]) -> PathBuf {
    let mut path = PathBuf::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(path.pop()),
            _ => path.push(OsStr::from_bytes(part)),
        }
    }
    path
}
