use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use buildkit_util_overlay::{Difference, Node, OPAQUE_XATTRS, Stack, diff};
use rustix::fs::{CWD, FileType, Mode, Stat, XattrFlags, makedev};

use crate::Usage;
use crate::copy::{copy_file, copy_metadata, set_times};
use crate::usage::{Inode, usage_without};

/// Lays differences between trees over each other in one directory.
///
/// Files are hard links to those of the trees, which therefore must never change, or copies. If the
/// directory lies over other layers, deletions become whiteouts.
pub(crate) struct Applier {
    root: PathBuf,
    /// What the directory lies over.
    base: Option<Stack>,
    userxattr: bool,
    /// Inodes that other snapshots own.
    foreign: HashSet<Inode>,
    /// Directories whose times are set when all is in place.
    dirs: BTreeMap<PathBuf, Stat>,
}

impl Applier {
    pub(crate) fn new(root: PathBuf, base: Option<Stack>, userxattr: bool) -> Self {
        Self { root, base, userxattr, foreign: HashSet::new(), dirs: BTreeMap::new() }
    }

    /// Applies what changes from `lower` to `upper`, with links to its files if `link` is set.
    pub(crate) fn apply(
        &mut self,
        lower: Option<&Stack>,
        upper: Option<&Stack>,
        link: bool,
    ) -> io::Result<()> {
        let lower = lower.map(Stack::root).transpose()?;
        let upper = upper.map(Stack::root).transpose()?;
        // Hard links within this difference, by the inode in the source.
        let mut links: HashMap<Inode, PathBuf> = HashMap::new();
        diff(lower.as_ref(), upper.as_ref(), &mut |difference| match difference {
            Difference::Delete(path) => self.delete(path),
            Difference::Enter(path, node) | Difference::Put(path, node) => {
                self.put(path, node, link, &mut links)
            }
        })
    }

    /// Ends the work and tells what the directory occupies without what other snapshots own.
    pub(crate) fn finish(self) -> io::Result<Usage> {
        for (path, stat) in self.dirs.iter().rev() {
            match rustix::fs::lstat(path) {
                // Something else may have taken its place.
                Ok(now) if FileType::from_raw_mode(now.st_mode) == FileType::Directory => {
                    set_times(path, stat)?
                }
                Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        usage_without(&self.root, &self.foreign)
    }

    fn delete(&mut self, path: &Path) -> io::Result<()> {
        let target = self.root.join(path);
        remove(&target)?;
        let below = match &self.base {
            Some(base) => base.lookup(path)?.is_some(),
            None => false,
        };
        if below {
            rustix::fs::mknodat(CWD, &target, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        path: &Path,
        node: &Node,
        link: bool,
        links: &mut HashMap<Inode, PathBuf>,
    ) -> io::Result<()> {
        let target = self.root.join(path);
        let stat = rustix::fs::lstat(&node.path)?;
        let existing = match rustix::fs::lstat(&target) {
            Ok(existing) => Some(FileType::from_raw_mode(existing.st_mode)),
            Err(rustix::io::Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        if node.dir.is_some() {
            let replaces = existing.is_some_and(|kind| kind != FileType::Directory);
            if replaces {
                remove(&target)?;
            }
            if replaces || existing.is_none() {
                rustix::fs::mkdir(&target, Mode::RWXU)?;
            }
            copy_metadata(&node.path, &stat, &target)?;
            if replaces && self.base.is_some() {
                // What stood here hid what is below; the directory must go on doing so.
                let name = OPAQUE_XATTRS[usize::from(self.userxattr)];
                rustix::fs::lsetxattr(&target, name, b"y", XattrFlags::empty())?;
            }
            self.dirs.insert(target, stat);
            return Ok(());
        }
        if existing.is_some() {
            remove(&target)?;
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        // A linked pipe or socket would connect steps that must not know of each other.
        if !matches!(kind, FileType::Fifo | FileType::Socket) {
            let inode = (stat.st_dev, stat.st_ino);
            let copied = links.get(&inode).map(PathBuf::as_path);
            if let Some(source) = copied.or_else(|| link.then_some(node.path.as_path())) {
                match rustix::fs::link(source, &target) {
                    Ok(()) => {
                        if copied.is_none() {
                            self.foreign.insert(inode);
                        }
                        return Ok(());
                    }
                    Err(
                        rustix::io::Errno::XDEV
                        | rustix::io::Errno::MLINK
                        | rustix::io::Errno::PERM
                        | rustix::io::Errno::OPNOTSUPP,
                    ) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if stat.st_nlink > 1 {
                links.insert(inode, target.clone());
            }
        }
        copy_file(&node.path, &stat, &target)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match rustix::fs::lstat(path) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            fs_err::remove_dir_all(path)
        }
        Ok(_) => fs_err::remove_file(path),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
