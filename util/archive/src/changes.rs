//! What changes between two trees, in the order and with the detail of the original's differs.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use buildkit_util_overlay::{Dir, Node, Pairs, Stack, is_opaque, is_whiteout, pairs, same};
use rustix::fs::{FileType, RawDir, Stat};

use crate::Error;

/// One file in which trees differ.
pub(crate) enum Change<'a> {
    /// It is new or not the same.
    Put { path: &'a Path, source: &'a Path, stat: &'a Stat },
    /// It is the same, and has other names.
    Same { path: &'a Path, stat: &'a Stat },
    /// It is gone, with all that was below it.
    Delete { path: &'a Path },
}

type Tell<'t> = &'t mut dyn FnMut(Change<'_>) -> Result<(), Error>;

/// Tells what changes from `lower` to `upper`.
///
/// If `upper` is one layer on top of `lower`, what that layer has is told. Otherwise both trees are compared,
/// but for directories that they have from the same layers.
pub(crate) fn changes(lower: Option<&Stack>, upper: Option<&Stack>, tell: Tell<'_>) -> Result<(), Error> {
    let root = |stack: Option<&Stack>| {
        stack.map(Stack::root).transpose().map_err(|error| Error::io("read", "/", error))
    };
    let below = lower.map_or(&[][..], Stack::layers);
    let mut walk = Walk { path: PathBuf::new(), tell };
    let first = match upper.map(Stack::layers) {
        Some([top, rest @ ..]) if rest == below => Some(walk.layer(top, root(lower)?)?),
        _ => walk.trees(root(lower)?.as_ref(), root(upper)?.as_ref(), false)?,
    };
    // Trees may be deeper than the stack of a thread.
    let mut open: Vec<Level> = first.into_iter().collect();
    while let Some(level) = open.last_mut() {
        match walk.next(level)? {
            Some(Some(below)) => open.push(below),
            Some(None) => drop(walk.path.pop()),
            None => {
                open.pop();
                walk.path.pop();
            }
        }
    }
    Ok(())
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A directory that is being compared.
enum Level {
    /// One layer on top of what is below it.
    Layer { dir: PathBuf, below: Option<Dir>, names: std::vec::IntoIter<OsString> },
    /// Two trees.
    Trees {
        files: Pairs,
        /// The upper one is a single layer, which shows its whiteouts.
        hide_whiteouts: bool,
    },
}

struct Walk<'t> {
    path: PathBuf,
    tell: Tell<'t>,
}

impl Walk<'_> {
    /// What a layer's directory has on top of what is below it.
    fn layer(&self, dir: &Path, below: Option<Dir>) -> Result<Level, Error> {
        Ok(Level::Layer { dir: dir.to_owned(), below, names: self.names(dir)?.into_iter() })
    }

    /// Tells of the next file in a directory; gives what is below it if it is a directory.
    fn next(&mut self, level: &mut Level) -> Result<Option<Option<Level>>, Error> {
        match level {
            Level::Layer { dir, below, names } => {
                let Some(name) = names.next() else { return Ok(None) };
                self.path.push(&name);
                let below = below.as_ref().map(|below| below.lookup(&name)).transpose();
                let below = below.map_err(|error| self.fail(error))?.flatten();
                self.layer_file(&dir.join(&name), below).map(Some)
            }
            Level::Trees { files, hide_whiteouts } => {
                let Some((name, (lower, upper))) = files.next() else { return Ok(None) };
                self.path.push(&name);
                self.tree_file(lower.as_ref(), upper.as_ref(), *hide_whiteouts).map(Some)
            }
        }
    }

    fn layer_file(&mut self, source: &Path, below: Option<Node>) -> Result<Option<Level>, Error> {
        let stat = rustix::fs::lstat(source).map_err(|error| self.fail(error))?;
        if is_whiteout(&stat) {
            if below.is_some() {
                (self.tell)(Change::Delete { path: &self.path })?;
            }
            return Ok(None);
        }
        if !self.is_same(below.as_ref(), source, &stat)? {
            (self.tell)(Change::Put { path: &self.path, source, stat: &stat })?;
        }
        if file_type(&stat) != FileType::Directory {
            return Ok(None);
        }
        if has_redirect(source).map_err(|error| self.fail(error))? {
            return Err(Error::refused(&self.path, "a layer that moves directories cannot be archived"));
        }
        match below {
            Some(below) if is_opaque(source).map_err(|error| self.fail(error))? => {
                let view = Stack::new(vec![source.to_owned()]).and_then(|stack| stack.root());
                let view = view.map_err(|error| self.fail(error))?;
                self.trees(below.dir.as_ref(), Some(&view), true)
            }
            below => self.layer(source, below.and_then(|below| below.dir)).map(Some),
        }
    }

    /// What changes from one tree to another.
    fn trees(
        &self,
        lower: Option<&Dir>,
        upper: Option<&Dir>,
        hide_whiteouts: bool,
    ) -> Result<Option<Level>, Error> {
        if lower == upper {
            return Ok(None);
        }
        let files = pairs(lower, upper).map_err(|error| self.fail(error))?;
        Ok(Some(Level::Trees { files, hide_whiteouts }))
    }

    fn tree_file(
        &mut self,
        lower: Option<&Node>,
        upper: Option<&Node>,
        hide_whiteouts: bool,
    ) -> Result<Option<Level>, Error> {
        let found = match upper {
            Some(upper) => {
                let stat = rustix::fs::lstat(&upper.path).map_err(|error| self.fail(error))?;
                Some((upper, stat)).filter(|(_, stat)| !(hide_whiteouts && is_whiteout(stat)))
            }
            None => None,
        };
        let Some((upper, stat)) = found else {
            if lower.is_some() {
                (self.tell)(Change::Delete { path: &self.path })?;
            }
            return Ok(None);
        };
        if !self.is_same(lower, &upper.path, &stat)? {
            (self.tell)(Change::Put { path: &self.path, source: &upper.path, stat: &stat })?;
        } else if stat.st_nlink > 1 && upper.dir.is_none() {
            (self.tell)(Change::Same { path: &self.path, stat: &stat })?;
        }
        match &upper.dir {
            Some(dir) => self.trees(lower.and_then(|node| node.dir.as_ref()), Some(dir), hide_whiteouts),
            None => Ok(None),
        }
    }

    fn is_same(&self, below: Option<&Node>, source: &Path, stat: &Stat) -> Result<bool, Error> {
        let Some(below) = below else { return Ok(false) };
        if below.path == source {
            return Ok(true);
        }
        let below_stat = rustix::fs::lstat(&below.path).map_err(|error| self.fail(error))?;
        same((&below.path, &below_stat), (source, stat)).map_err(|error| self.fail(error))
    }

    /// Names in a directory in the order of their bytes.
    fn names(&self, dir: &Path) -> Result<Vec<OsString>, Error> {
        use rustix::fs::{Mode, OFlags, open};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = open(dir, flags, Mode::empty()).map_err(|error| self.fail(error))?;
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| self.fail(error))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn fail(&self, error: impl Into<io::Error>) -> Error {
        Error::io("read", &self.path, error)
    }
}

/// Whether overlayfs has the content of a directory elsewhere.
fn has_redirect(dir: &Path) -> rustix::io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::lgetxattr(dir, "trusted.overlay.redirect", &mut [0u8; 0][..]) {
        Ok(length) => Ok(length > 0),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}
