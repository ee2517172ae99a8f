use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Arc;

use buildkit_util_fsutil_types::Stat;
use bytes::Bytes;

use crate::{Entry, Error, FileSystem, Walk, compare_paths, mode};

/// A tree and the directory that it is shown in.
#[derive(Clone)]
pub struct Dir {
    /// Attributes of the directory; its path is one name.
    pub stat: Stat,
    /// What is in it.
    pub fs: Arc<dyn FileSystem>,
}

/// Several trees, each in a directory of its own.
pub struct SubDirFs {
    dirs: Vec<Dir>,
}

impl SubDirFs {
    /// Puts trees side by side.
    ///
    /// # Errors
    /// [`Error::Compose`] for a name that is a path, that comes twice, or whose attributes are not
    /// those of a directory.
    pub fn new(mut dirs: Vec<Dir>) -> Result<Self, Error> {
        dirs.sort_by(|a, b| a.stat.path.cmp(&b.stat.path));
        for dir in &dirs {
            let path = &dir.stat.path;
            if path.contains('/') || matches!(path.as_str(), "" | "." | "..") {
                return Err(Error::Compose(format!("invalid path {path}: is a directory")));
            }
            if !mode::is_dir(dir.stat.mode) {
                return Err(Error::Compose(format!("walk subdir {path}: not a directory")));
            }
        }
        if let Some(pair) = dirs.windows(2).find(|pair| pair[0].stat.path == pair[1].stat.path) {
            return Err(Error::Compose(format!("duplicate path {}: file exists", pair[0].stat.path)));
        }
        Ok(Self { dirs })
    }
}

impl FileSystem for SubDirFs {
    fn walk(&self, target: &str) -> Result<Box<dyn Walk + '_>, Error> {
        let target = target.trim_matches('/');
        let (first, rest) = target.split_once('/').unwrap_or((target, ""));
        Ok(Box::new(SubDirWalk {
            dirs: self.dirs.iter().filter(|dir| first.is_empty() || first == dir.stat.path).collect(),
            at: 0,
            rest: rest.to_owned(),
            inner: None,
            enter: false,
        }))
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        let not_found = || Error::io("open", path, std::io::Error::from(std::io::ErrorKind::NotFound));
        let (first, rest) = path.split_once('/').ok_or_else(not_found)?;
        let dir = self.dirs.iter().find(|dir| dir.stat.path == first).ok_or_else(not_found)?;
        dir.fs.open(rest)
    }
}

struct SubDirWalk<'a> {
    dirs: Vec<&'a Dir>,
    /// The directory after the current one.
    at: usize,
    rest: String,
    inner: Option<Box<dyn Walk + 'a>>,
    /// Whether the current directory was shown and its tree comes next.
    enter: bool,
}

impl Walk for SubDirWalk<'_> {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        if std::mem::take(&mut self.enter) {
            self.inner = Some(self.dirs[self.at - 1].fs.walk(&self.rest)?);
        }
        if let Some(inner) = &mut self.inner {
            if let Some(mut entry) = inner.next()? {
                entry.path = format!("{}/{}", self.dirs[self.at - 1].stat.path, entry.path);
                return Ok(Some(entry));
            }
            self.inner = None;
        }
        let Some(dir) = self.dirs.get(self.at) else { return Ok(None) };
        self.at += 1;
        self.enter = true;
        Ok(Some(Entry { path: dir.stat.path.clone(), kind: mode::DIR }))
    }

    fn stat(&mut self) -> Result<Stat, Error> {
        let dir = &self.dirs[self.at.saturating_sub(1)].stat;
        let Some(inner) = &mut self.inner else { return Ok(dir.clone()) };
        let mut stat = inner.stat()?;
        stat.path = format!("{}/{}", dir.path, stat.path);
        if mode::is_symlink(stat.mode) {
            if stat.linkname.starts_with('/') {
                stat.linkname = buildkit_util_system::path::clean(&format!("/{}{}", dir.path, stat.linkname));
            }
        } else if !stat.linkname.is_empty() {
            stat.linkname = format!("{}/{}", dir.path, stat.linkname);
        }
        Ok(stat)
    }

    fn skip_dir(&mut self) {
        match &mut self.inner {
            Some(inner) => inner.skip_dir(),
            None => self.enter = false,
        }
    }
}

/// Two trees in one. Where both have an entry, the upper one's is shown.
pub struct MergeFs {
    lower: Arc<dyn FileSystem>,
    upper: Arc<dyn FileSystem>,
}

impl MergeFs {
    /// Puts `upper` over `lower`.
    pub fn new(lower: Arc<dyn FileSystem>, upper: Arc<dyn FileSystem>) -> Self {
        Self { lower, upper }
    }
}

impl FileSystem for MergeFs {
    fn walk(&self, target: &str) -> Result<Box<dyn Walk + '_>, Error> {
        Ok(Box::new(MergeWalk {
            lower: Side { walk: self.lower.walk(target)?, next: None, done: false },
            upper: Side { walk: self.upper.walk(target)?, next: None, done: false },
            current: Current::None,
        }))
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        match self.upper.open(path) {
            Err(error) if error.is_not_found() => self.lower.open(path),
            other => other,
        }
    }
}

struct Side<'a> {
    walk: Box<dyn Walk + 'a>,
    next: Option<Entry>,
    done: bool,
}

impl Side<'_> {
    fn peek(&mut self) -> Result<Option<&Entry>, Error> {
        if self.next.is_none() && !self.done {
            self.next = self.walk.next()?;
            self.done = self.next.is_none();
        }
        Ok(self.next.as_ref())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Current {
    None,
    Lower,
    Upper,
    Both,
}

struct MergeWalk<'a> {
    lower: Side<'a>,
    upper: Side<'a>,
    current: Current,
}

impl Walk for MergeWalk<'_> {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        // Each side is asked again only when its last entry was shown, so that attributes and
        // skipping still mean that entry.
        let order = match (self.lower.peek()?, self.upper.peek()?) {
            (None, None) => {
                self.current = Current::None;
                return Ok(None);
            }
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(lower), Some(upper)) => compare_paths(&lower.path, &upper.path),
        };
        Ok(match order {
            std::cmp::Ordering::Less => {
                self.current = Current::Lower;
                self.lower.next.take()
            }
            std::cmp::Ordering::Greater => {
                self.current = Current::Upper;
                self.upper.next.take()
            }
            std::cmp::Ordering::Equal => {
                self.current = Current::Both;
                let lower = self.lower.next.take();
                let upper = self.upper.next.take();
                // What is below a directory that the upper tree replaces is not there.
                if upper.as_ref().is_some_and(|entry| !entry.is_dir())
                    && lower.is_some_and(|entry| entry.is_dir())
                {
                    self.lower.walk.skip_dir();
                }
                upper
            }
        })
    }

    fn stat(&mut self) -> Result<Stat, Error> {
        match self.current {
            Current::Lower => self.lower.walk.stat(),
            _ => self.upper.walk.stat(),
        }
    }

    fn skip_dir(&mut self) {
        if matches!(self.current, Current::Lower | Current::Both) {
            self.lower.walk.skip_dir();
        }
        if matches!(self.current, Current::Upper | Current::Both) {
            self.upper.walk.skip_dir();
        }
    }
}

/// Files that are in memory.
#[derive(Default)]
pub struct StaticFs {
    /// By the order of the protocol, which for equal depth is the order of text with `/` lowest.
    files: BTreeMap<String, (Stat, Bytes)>,
}

impl StaticFs {
    /// A tree without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, or replaces it. Path and size of `stat` are set to what they are.
    pub fn add(&mut self, path: &str, mut stat: Stat, data: impl Into<Bytes>) {
        let data = data.into();
        stat.path = path.to_owned();
        stat.size = i64::try_from(data.len()).unwrap_or(i64::MAX);
        // The key sorts as the protocol does.
        self.files.insert(path.replace('/', "\0"), (stat, data));
    }
}

impl FileSystem for StaticFs {
    fn walk(&self, target: &str) -> Result<Box<dyn Walk + '_>, Error> {
        let target = target.trim_matches('/').to_owned();
        let entries: Vec<&Stat> = self
            .files
            .values()
            .map(|(stat, _)| stat)
            .filter(|stat| {
                target.is_empty()
                    || stat.path.strip_prefix(&target).is_some_and(|r| r.is_empty() || r.starts_with('/'))
            })
            .collect();
        Ok(Box::new(StaticWalk { entries, at: 0 }))
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        match self.files.get(&path.replace('/', "\0")) {
            Some((_, data)) => Ok(Box::new(Cursor::new(data.clone()))),
            None => Err(Error::io("open", path, std::io::Error::from(std::io::ErrorKind::NotFound))),
        }
    }
}

struct StaticWalk<'a> {
    entries: Vec<&'a Stat>,
    at: usize,
}

impl Walk for StaticWalk<'_> {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        let Some(stat) = self.entries.get(self.at) else { return Ok(None) };
        self.at += 1;
        Ok(Some(Entry { path: stat.path.clone(), kind: stat.mode & mode::TYPE }))
    }

    fn stat(&mut self) -> Result<Stat, Error> {
        Ok(self.entries[self.at.saturating_sub(1)].clone())
    }

    fn skip_dir(&mut self) {
        let Some(dir) = self.entries.get(self.at.saturating_sub(1)) else { return };
        while self
            .entries
            .get(self.at)
            .is_some_and(|next| next.path.strip_prefix(&dir.path).is_some_and(|rest| rest.starts_with('/')))
        {
            self.at += 1;
        }
    }
}
