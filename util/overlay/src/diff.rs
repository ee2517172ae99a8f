use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::stack::{Dir, Node};

/// One difference between two trees.
#[derive(Debug)]
pub enum Difference<'a> {
    /// The file is new or not the same.
    Put(&'a Path, &'a Node),
    /// The file is gone, with all that was below it.
    Delete(&'a Path),
    /// A directory that is the same in both trees and that has differences below it. Comes before
    /// them.
    Enter(&'a Path, &'a Node),
}

/// Compares two trees, either of which may be empty, and tells every difference in path order,
/// directories before what is in them. The root itself is not compared. Paths are relative.
///
/// What both trees have from the same layers is not looked at, so that a tree and its parent are
/// compared in the time that their difference takes.
///
/// # Errors
/// When a layer cannot be read, or `tell` fails.
pub fn diff(
    lower: Option<&Dir>,
    upper: Option<&Dir>,
    tell: &mut dyn FnMut(Difference<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut walk = Walk { path: PathBuf::new(), entered: Vec::new(), tell };
    walk.dirs(lower, upper)
}

struct Walk<'t> {
    path: PathBuf,
    /// Unchanged directories above the current one, with whether they were told.
    entered: Vec<(PathBuf, Node, bool)>,
    tell: &'t mut dyn FnMut(Difference<'_>) -> io::Result<()>,
}

impl Walk<'_> {
    fn dirs(&mut self, lower: Option<&Dir>, upper: Option<&Dir>) -> io::Result<()> {
        if lower == upper {
            return Ok(());
        }
        let entries = |dir: Option<&Dir>| dir.map_or_else(|| Ok(BTreeMap::new()), Dir::entries);
        let mut below = entries(lower)?.into_iter().peekable();
        let mut above = entries(upper)?.into_iter().peekable();
        loop {
            let order = match (below.peek(), above.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((left, _)), Some((right, _))) => left.cmp(right),
            };
            let (lower, upper) = match order {
                std::cmp::Ordering::Less => (below.next(), None),
                std::cmp::Ordering::Greater => (None, above.next()),
                std::cmp::Ordering::Equal => (below.next(), above.next()),
            };
            self.files(lower, upper)?;
        }
    }

    fn files(&mut self, lower: Option<(OsString, Node)>, upper: Option<(OsString, Node)>) -> io::Result<()> {
        let Some((name, upper)) = upper else {
            if let Some((name, _)) = lower {
                self.path.push(name);
                self.enter()?;
                (self.tell)(Difference::Delete(&self.path))?;
                self.path.pop();
            }
            return Ok(());
        };
        let lower = lower.map(|(_, node)| node);
        self.path.push(name);
        let unchanged = match &lower {
            Some(lower) => lower.path == upper.path || same_files(&lower.path, &upper.path)?,
            None => false,
        };
        if !unchanged {
            self.enter()?;
            (self.tell)(Difference::Put(&self.path, &upper))?;
        }
        if let Some(dir) = &upper.dir {
            let below = lower.as_ref().and_then(|node| node.dir.as_ref());
            if below != Some(dir) {
                self.entered.push((self.path.clone(), upper.clone(), !unchanged));
                self.dirs(below, Some(dir))?;
                self.entered.pop();
            }
        }
        self.path.pop();
        Ok(())
    }

    /// Tells the unchanged directories on the way here that were not told yet.
    fn enter(&mut self) -> io::Result<()> {
        for (path, node, told) in &mut self.entered {
            if !std::mem::replace(told, true) {
                (self.tell)(Difference::Enter(path, node))?;
            }
        }
        Ok(())
    }
}

/// Whether two files are the same as far as a layer shows: type, mode, owner, device, file
/// capabilities, and unless they are directories, size, modification time, and if that has only
/// whole seconds (as after unpacking an archive) content.
///
/// # Errors
/// When a file cannot be read.
pub fn same_files(left: &Path, right: &Path) -> io::Result<bool> {
    let (left_stat, right_stat) = (rustix::fs::lstat(left)?, rustix::fs::lstat(right)?);
    same((left, &left_stat), (right, &right_stat))
}

/// As `same_files`, for files whose status is known.
///
/// # Errors
/// When a file cannot be read.
pub fn same(left: (&Path, &Stat), right: (&Path, &Stat)) -> io::Result<bool> {
    let ((left_path, a), (right_path, b)) = (left, right);
    if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) {
        return Ok(true);
    }
    if (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev)
        || capability(left_path)? != capability(right_path)?
    {
        return Ok(false);
    }
    let kind = FileType::from_raw_mode(a.st_mode);
    if kind == FileType::Directory {
        return Ok(true);
    }
    if (a.st_size, a.st_mtime, a.st_mtime_nsec) != (b.st_size, b.st_mtime, b.st_mtime_nsec) {
        return Ok(false);
    }
    if a.st_mtime_nsec != 0 {
        return Ok(true);
    }
    match kind {
        FileType::Symlink => {
            Ok(rustix::fs::readlink(left_path, Vec::new())? == rustix::fs::readlink(right_path, Vec::new())?)
        }
        FileType::RegularFile if a.st_size > 0 => same_content(left_path, right_path),
        _ => Ok(true),
    }
}

fn capability(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; 64];
    match rustix::fs::lgetxattr(path, "security.capability", &mut value[..]) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn same_content(left: &Path, right: &Path) -> io::Result<bool> {
    let (mut left, mut right) = (fs_err::File::open(left)?, fs_err::File::open(right)?);
    let (mut a, mut b) = (vec![0u8; 64 << 10], vec![0u8; 64 << 10]);
    loop {
        let (len, other) = (fill(&mut left, &mut a)?, fill(&mut right, &mut b)?);
        if a[..len] != b[..other] {
            return Ok(false);
        }
        if len == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut fs_err::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..])? {
            0 => break,
            count => len += count,
        }
    }
    Ok(len)
}
