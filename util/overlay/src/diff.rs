use std::collections::{BTreeMap, btree_map};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
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

/// Files of two directories by name, in the order of the names; at least one of each pair is there.
pub type Pairs = btree_map::IntoIter<OsString, (Option<Node>, Option<Node>)>;

/// What two directories have, either of which may not be there.
///
/// # Errors
/// When a layer cannot be read.
pub fn pairs(lower: Option<&Dir>, upper: Option<&Dir>) -> io::Result<Pairs> {
    let mut both: BTreeMap<OsString, (Option<Node>, Option<Node>)> = BTreeMap::new();
    let entries = |dir: Option<&Dir>| dir.map_or_else(|| Ok(BTreeMap::new()), Dir::entries);
    for (name, node) in entries(lower)? {
        both.entry(name).or_default().0 = Some(node);
    }
    for (name, node) in entries(upper)? {
        both.entry(name).or_default().1 = Some(node);
    }
    Ok(both.into_iter())
}

/// Compares two trees, either of which may be empty, and tells every difference in path order,
/// directories before what is in them. The root itself is not compared. Paths are relative.
///
/// What both trees have from the same layers is not looked at, so that a tree and its parent are
/// compared in the time that their difference takes. Trees may be as deep as paths are long.
///
/// # Errors
/// When a layer cannot be read, or `tell` fails.
pub fn diff(
    lower: Option<&Dir>,
    upper: Option<&Dir>,
    tell: &mut dyn FnMut(Difference<'_>) -> io::Result<()>,
) -> io::Result<()> {
    if lower == upper {
        return Ok(());
    }
    let mut walk = Walk { path: PathBuf::new(), entered: Vec::new(), told: 0, tell };
    // Trees may be deeper than the stack of a thread.
    let mut open = vec![pairs(lower, upper)?];
    while let Some(files) = open.last_mut() {
        match files.next() {
            Some((name, (lower, upper))) => {
                walk.path.push(name);
                match walk.file(lower, upper)? {
                    Some(below) => open.push(below),
                    None => drop(walk.path.pop()),
                }
            }
            None => {
                open.pop();
                walk.leave();
            }
        }
    }
    Ok(())
}

struct Walk<'t> {
    path: PathBuf,
    /// Directories on the way here that both trees have differently, with the lengths of their paths.
    entered: Vec<(usize, Node)>,
    /// How many of them were told: those below one that was not, were not either.
    told: usize,
    tell: &'t mut dyn FnMut(Difference<'_>) -> io::Result<()>,
}

impl Walk<'_> {
    /// Tells how the files at the current path differ; gives what is below them if that has to be compared.
    fn file(&mut self, lower: Option<Node>, upper: Option<Node>) -> io::Result<Option<Pairs>> {
        let Some(upper) = upper else {
            self.enter()?;
            (self.tell)(Difference::Delete(&self.path))?;
            return Ok(None);
        };
        let unchanged = match &lower {
            Some(lower) => lower.path == upper.path || same_files(&lower.path, &upper.path)?,
            None => false,
        };
        if !unchanged {
            self.enter()?;
            (self.tell)(Difference::Put(&self.path, &upper))?;
        }
        let Some(dir) = &upper.dir else { return Ok(None) };
        let below = lower.as_ref().and_then(|node| node.dir.as_ref());
        if below == Some(dir) {
            return Ok(None);
        }
        let files = pairs(below, Some(dir))?;
        self.told += usize::from(!unchanged);
        self.entered.push((self.path.as_os_str().len(), upper));
        Ok(Some(files))
    }

    /// Tells the unchanged directories on the way here that were not told yet.
    fn enter(&mut self) -> io::Result<()> {
        for (length, node) in self.entered.iter().skip(self.told) {
            let path = self.path.as_os_str().as_bytes().get(..*length).unwrap_or_default();
            (self.tell)(Difference::Enter(Path::new(OsStr::from_bytes(path)), node))?;
        }
        self.told = self.entered.len();
        Ok(())
    }

    /// Goes back up from a directory.
    fn leave(&mut self) {
        self.path.pop();
        self.entered.pop();
        self.told = self.told.min(self.entered.len());
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

#[cfg(test)]
mod tests {
    use crate::Stack;

    use super::*;

    fn told(lower: &Path, upper: &Path) -> Vec<String> {
        let root =
            |path: &Path| Stack::new(vec![path.to_owned()]).and_then(|stack| stack.root()).expect("root");
        let mut told = Vec::new();
        diff(Some(&root(lower)), Some(&root(upper)), &mut |difference| {
            told.push(match difference {
                Difference::Put(path, _) => format!("put {}", path.display()),
                Difference::Delete(path) => format!("delete {}", path.display()),
                Difference::Enter(path, _) => format!("enter {}", path.display()),
            });
            Ok(())
        })
        .expect("compared");
        told
    }

    #[test]
    fn unchanged_directories_are_entered_once_and_for_a_difference_only() {
        let temp = tempfile::tempdir().expect("temp dir");
        let (lower, upper) = (temp.path().join("lower"), temp.path().join("upper"));
        for (root, dirs, files) in [
            (&lower, ["a/b", "a/same", "gone/x"], ["a/b/deleted", "z"]),
            (&upper, ["a/b", "a/same", "new/y"], ["a/b/put", "a/c"]),
        ] {
            dirs.iter().for_each(|dir| std::fs::create_dir_all(root.join(dir)).expect("mkdir"));
            files.iter().for_each(|file| std::fs::write(root.join(file), "").expect("write"));
        }
        assert_eq!(
            told(&lower, &upper),
            [
                "enter a",
                "enter a/b",
                "delete a/b/deleted",
                "put a/b/put",
                "put a/c",
                "delete gone",
                "put new",
                "put new/y",
                "delete z"
            ]
        );
        assert_eq!(told(&upper, &upper), [""; 0]);
    }

    #[test]
    fn trees_may_be_as_deep_as_paths_are_long() {
        let temp = tempfile::tempdir().expect("temp dir");
        let roots = ["lower", "upper"].map(|name| temp.path().join(name));
        let depth = (4090 - roots[0].as_os_str().len()) / 2;
        for root in &roots {
            let mut deepest = root.clone();
            std::fs::create_dir(&deepest).expect("mkdir");
            for _ in 0..depth {
                deepest.push("d");
                std::fs::create_dir(&deepest).expect("mkdir");
            }
        }
        let last = vec!["d"; depth].join("/");
        std::fs::write(roots[1].join(&last).join("f"), "").expect("write");
        // A stack on which a few levels fit, if each took some of it.
        let compare = move || (told(&roots[0], &roots[1]), depth);
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(compare);
        let (told, depth) = thread.expect("a thread").join().expect("compared");
        assert_eq!(told.len(), depth + 1);
        assert_eq!(told.last(), Some(&format!("put {last}/f")));
    }
}
