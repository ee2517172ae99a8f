use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use buildkit_util_patternmatcher::{MatchInfo, PatternMatcher};
use buildkit_util_system::Root;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RawMode, Stat, linkat, mkdirat, mknodat, openat, readlinkat,
    statat, symlinkat,
};
use rustix::io::Errno;

use crate::attributes::Attributes;
use crate::dirs::set_times;
use crate::files::{Batch, Files, Pool, Target};
use crate::{CopyOptions, Error, make_dirs, resolve_wildcards};

/// Directories of one tree that are open at a time. Those further up are opened again when the copy
/// comes back to them.
const KEPT_OPEN: usize = 128;

/// Copies `src` of one root to `dst` of another.
///
/// Directories above `dst` are made as needed. If `dst` is a directory that exists, a file gets its
/// own name in it, and so does a directory unless only its content is wanted; otherwise `dst` is what
/// the copy is called. A file replaces a file or link. Directories are merged: those below the source
/// give theirs their attributes, the uppermost keeps its own if it exists. Blocks; files of a tree are
/// copied by several threads, all of which have ended when this returns.
///
/// # Errors
/// See [`Error`].
pub fn copy(
    src_root: &Root,
    src: impl AsRef<Path>,
    dst_root: &Root,
    dst: impl AsRef<Path>,
    options: &CopyOptions,
) -> Result<(), Error> {
    let (src, dst) = (src.as_ref(), dst.as_ref());
    let new_dir_mode = options.mode.unwrap_or(0o755);
    let bytes = dst.as_os_str().as_bytes();
    let is_dir = bytes.is_empty() || bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
    let needed = if is_dir { Some(dst) } else { dst.parent() };
    let mut made = Vec::new();
    let make = |path: &Path| make_dirs(dst_root, path, new_dir_mode, options.chown.as_ref(), options.time);
    if let Some(needed) = needed.filter(|path| !path.as_os_str().is_empty()) {
        made.extend(make(needed)?);
    }
    let files = Files::new(dst_root, options);
    let mut walk = Walk::new(src_root, dst_root, options)?;
    let dst = dst_root.real_path(dst)?;
    let sources = if options.allow_wildcards {
        let text = src.to_str().ok_or_else(|| Error::NoMatch(src.to_owned()))?;
        let found = resolve_wildcards(src_root, text, options.follow_links)?;
        if found.is_empty() {
            return Err(Error::NoMatch(src.to_owned()));
        }
        found
    } else {
        vec![src.to_owned()]
    };
    for src in &sources {
        let real = real_source(src_root, src, options.follow_links)?;
        let stat = src_root.lstat(&real)?;
        let existing = match dst_root.lstat(&dst) {
            Ok(stat) => Some(stat),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let mut target = dst.clone();
        let into = match &existing {
            Some(_) if stat.is_dir() => !options.copy_dir_contents,
            Some(existing) => existing.is_dir(),
            None => false,
        };
        if into && let Some(name) = src.file_name() {
            target.push(name);
        }
        let parent = if options.copy_dir_contents && stat.is_dir() && existing.is_none() {
            target.as_path()
        } else {
            target.parent().unwrap_or(Path::new("/"))
        };
        made.extend(make(parent)?);
        walk.copy_top(&files, &real, &target)?;
    }
    set_times(dst_root, &made, options.time)
}

/// The source without links on the way to it.
fn real_source(root: &Root, src: &Path, follow: bool) -> Result<PathBuf, Error> {
    // Cleaned as text first, as everywhere.
    let mut rooted = PathBuf::from("/");
    for component in src.components() {
        match component {
            Component::Normal(name) => rooted.push(name),
            Component::ParentDir => drop(rooted.pop()),
            _ => {}
        }
    }
    if follow {
        return Ok(root.real_path(&rooted)?);
    }
    match (rooted.parent(), rooted.file_name()) {
        (Some(parent), Some(name)) => Ok(root.real_path(parent)?.join(name)),
        _ => Ok(rooted),
    }
}

/// A directory that is being copied.
struct Level {
    src: Option<Arc<OwnedFd>>,
    dst: Option<Arc<OwnedFd>>,
    src_path: PathBuf,
    dst_path: PathBuf,
    /// Path below the source, for patterns.
    relative: String,
    stat: Stat,
    include: MatchInfo,
    exclude: MatchInfo,
    /// Names still to come, last first.
    names: Vec<CString>,
    /// Whether the target is there; with include patterns it is made when something in it matches.
    exists: bool,
    /// Whether the target was made here, so that nothing is in it yet.
    made: bool,
    /// What is done with its attributes in the end.
    finish: Finish,
    /// Regular files of it that are to be copied.
    files: Vec<(CString, Stat)>,
    bytes: u64,
    /// Counts the batches of files that threads copy: one reference each.
    pending: Arc<()>,
}

impl Level {
    fn is_pending(&self) -> bool {
        Arc::strong_count(&self.pending) > 1
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Finish {
    Nothing,
    Times,
    Everything,
}

/// Files, and bytes of them, that are copied as one batch.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: u64 = 4 << 20;

/// Goes through the source, and copies everything but most files.
struct Walk<'a> {
    src_root: &'a Root,
    dst_root: &'a Root,
    options: &'a CopyOptions,
    include: Option<PatternMatcher>,
    exclude: Option<PatternMatcher>,
    /// Where the first name of a file with several was copied to.
    inodes: HashMap<(u64, u64), PathBuf>,
    levels: Vec<Level>,
    /// Directories that were walked and wait for their files.
    waiting: Vec<Level>,
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

impl<'a> Walk<'a> {
    fn new(src_root: &'a Root, dst_root: &'a Root, options: &'a CopyOptions) -> Result<Self, Error> {
        let matcher = |patterns: &[String], what| {
            if patterns.is_empty() {
                return Ok(None);
            }
            PatternMatcher::new(patterns).map(Some).map_err(|source| Error::Patterns { what, source })
        };
        Ok(Self {
            src_root,
            dst_root,
            options,
            include: matcher(&options.include, "includepatterns")?,
            exclude: matcher(&options.exclude, "excludepatterns")?,
            inodes: HashMap::new(),
            levels: Vec::new(),
            waiting: Vec::new(),
        })
    }

    /// Copies a path without links to another such path, whose directory exists.
    fn copy_top(&mut self, files: &Files<'_>, src: &Path, dst: &Path) -> Result<(), Error> {
        let (src_dir, src_name) = open_parent(self.src_root, src)?;
        let (dst_dir, dst_name) = open_parent(self.dst_root, dst)?;
        let top = Place {
            src_dir: src_dir.as_fd(),
            src_name: &src_name,
            dst_dir: Some(dst_dir.as_fd()),
            dst_name: &dst_name,
            src_path: src.to_owned(),
            dst_path: dst.to_owned(),
        };
        let wanted = Wanted { include: true, excluded: false, ..Wanted::default() };
        let walked = std::thread::scope(|scope| {
            let mut pool = Pool::new(scope, files);
            self.entry(&mut pool, &top, String::new(), wanted, true)?;
            while !self.levels.is_empty() {
                self.step(&mut pool)?;
            }
            Ok(())
        });
        // Here all threads have ended.
        files.take_error().map_or(walked, Err)?;
        for level in std::mem::take(&mut self.waiting) {
            self.finish_attributes(level)?;
        }
        Ok(())
    }

    /// Copies the next entry of the innermost directory, or ends it.
    fn step(&mut self, pool: &mut Pool<'_, '_>) -> Result<(), Error> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        let Some(name) = level.names.pop() else { return self.finish(pool, level) };
        let lossy = name.to_string_lossy();
        let relative = if level.relative.is_empty() {
            lossy.into_owned()
        } else {
            format!("{}/{lossy}", level.relative)
        };
        let wanted = self.wanted(&relative, &level)?;
        if !wanted.include && self.include.is_none() && !self.has_exceptions() {
            self.levels.push(level);
            return Ok(());
        }
        // Opened again if the copy was far below.
        self.open_level(&mut level)?;
        let os_name = OsStr::from_bytes(name.to_bytes());
        let (src_path, dst_path) = (level.src_path.join(os_name), level.dst_path.join(os_name));
        // The descriptors live as long as this entry, whatever becomes of the level.
        let src_dir = level.src.clone();
        let mut dst_dir = level.dst.clone();
        self.levels.push(level);
        if wanted.include {
            self.make_parents(&mut dst_dir)?;
        }
        let Some(src_dir) = src_dir else { return Ok(()) };
        let place = Place {
            src_dir: src_dir.as_fd(),
            src_name: &name,
            dst_dir: dst_dir.as_ref().map(|fd| fd.as_fd()),
            dst_name: &name,
            src_path,
            dst_path,
        };
        self.entry(pool, &place, relative, wanted, false)?;
        if let Some(far) = self.levels.len().checked_sub(KEPT_OPEN) {
            self.levels[far].src = None;
            self.levels[far].dst = None;
        }
        Ok(())
    }

    /// Opens the directories of a level that are not open.
    fn open_level(&self, level: &mut Level) -> Result<(), Error> {
        if level.src.is_none() {
            level.src = Some(Arc::new(open_dir(self.src_root, &level.src_path)?));
        }
        if level.exists && level.dst.is_none() {
            level.dst = Some(Arc::new(open_dir(self.dst_root, &level.dst_path)?));
        }
        Ok(())
    }

    fn has_exceptions(&self) -> bool {
        self.exclude.as_ref().is_some_and(PatternMatcher::has_exclusions)
    }

    fn wanted(&self, path: &str, parent: &Level) -> Result<Wanted, Error> {
        let mut wanted = Wanted { include: true, ..Wanted::default() };
        if let Some(matcher) = &self.include {
            wanted.include = matcher
                .matches_using_parent_results(path, &parent.include, Some(&mut wanted.include_info))
                .map_err(|source| Error::Patterns { what: "includepatterns", source })?;
        }
        if let Some(matcher) = &self.exclude {
            wanted.excluded = matcher
                .matches_using_parent_results(path, &parent.exclude, Some(&mut wanted.exclude_info))
                .map_err(|source| Error::Patterns { what: "excludepatterns", source })?;
            wanted.include &= !wanted.excluded;
        }
        Ok(wanted)
    }

    /// Makes the directories around the current entry that were put off. `innermost` becomes the
    /// last of them.
    fn make_parents(&mut self, innermost: &mut Option<Arc<OwnedFd>>) -> Result<(), Error> {
        let Some(first) = self.levels.iter().position(|level| !level.exists) else { return Ok(()) };
        let last = self.levels.len() - 1;
        for index in first..=last {
            let (dir, name) = open_parent(self.dst_root, &self.levels[index].dst_path)?;
            let level = &mut self.levels[index];
            let (fd, made) = make_dir(dir.as_fd(), &name, &level.stat, &level.dst_path, true)?;
            level.exists = true;
            level.made = made;
            // Made for the sake of what is in it: then it looks like its source as well.
            level.finish = if made { Finish::Everything } else { Finish::Nothing };
            if index == last {
                let fd = Arc::new(fd);
                level.dst = Some(fd.clone());
                *innermost = Some(fd);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        pool: &mut Pool<'_, '_>,
        place: &Place<'_>,
        relative: String,
        wanted: Wanted,
        top: bool,
    ) -> Result<(), Error> {
        let stat = statat(place.src_dir, place.src_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::io("stat", &place.src_path, error))?;
        if is_dir(&stat) {
            return self.directory(place, stat, relative, wanted, top);
        }
        if !wanted.include {
            return Ok(());
        }
        let Some(dst_dir) = place.dst_dir else { return Ok(()) };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let level = self.levels.last_mut();
        if kind == FileType::RegularFile
            && stat.st_nlink == 1
            && !top
            && let Some(level) = level
        {
            level.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            level.files.push((place.src_name.to_owned(), stat));
            if level.files.len() >= BATCH_FILES || level.bytes >= BATCH_BYTES {
                flush(pool, level)?;
            }
            return Ok(());
        }
        let target = Target { dir: dst_dir, name: place.dst_name, path: &place.dst_path };
        let nothing_there = !top && self.levels.last().is_some_and(|level| level.made);
        if !nothing_there {
            pool.files().make_way(&target)?;
        }
        let attributes = Attributes::new(self.options);
        match kind {
            FileType::RegularFile => {
                if self.hard_link(&stat, place, dst_dir)? {
                    return Ok(());
                }
                return pool.copy_file(&stat, (place.src_dir, place.src_name, &place.src_path), &target);
            }
            FileType::Symlink => {
                let link = readlinkat(place.src_dir, place.src_name, Vec::new())
                    .map_err(|error| Error::io("read link", &place.src_path, error))?;
                symlinkat(&link, dst_dir, place.dst_name)
                    .map_err(|error| Error::io("create symlink", &place.dst_path, error))?;
            }
            kind => {
                // A socket means nothing without its listener: it becomes an empty file.
                let kind = if kind == FileType::Socket { FileType::RegularFile } else { kind };
                mknodat(dst_dir, place.dst_name, kind, Mode::empty(), stat.st_rdev)
                    .map_err(|error| Error::io("create device", &place.dst_path, error))?;
            }
        }
        attributes.apply_at(&stat, (place.src_dir, place.src_name), dst_dir, place.dst_name, &place.dst_path)
    }

    /// Links a file to the copy of another name of it, if there was one.
    fn hard_link(&mut self, stat: &Stat, place: &Place<'_>, dst_dir: BorrowedFd<'_>) -> Result<bool, Error> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        match self.inodes.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(place.dst_path.clone());
                Ok(false)
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                let (dir, name) = open_parent(self.dst_root, first.get())?;
                linkat(&dir, &name, dst_dir, place.dst_name, AtFlags::empty())
                    .map_err(|error| Error::io("create hard link", &place.dst_path, error))?;
                Ok(true)
            }
        }
    }

    fn directory(
        &mut self,
        place: &Place<'_>,
        stat: Stat,
        relative: String,
        wanted: Wanted,
        top: bool,
    ) -> Result<(), Error> {
        let (mut dst, mut finish, mut new) = (None, Finish::Nothing, false);
        if wanted.include
            && let Some(dst_dir) = place.dst_dir
        {
            if self.options.always_replace
                && let Ok(existing) = statat(dst_dir, place.dst_name, AtFlags::SYMLINK_NOFOLLOW)
                && !is_dir(&existing)
            {
                self.dst_root.remove_all(&place.dst_path)?;
            }
            let (fd, made) = make_dir(dst_dir, place.dst_name, &stat, &place.dst_path, !top)?;
            dst = Some(Arc::new(fd));
            new = made;
            finish = if made || !top { Finish::Everything } else { Finish::Times };
        }
        if wanted.excluded && !self.has_exceptions() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fail = |error| Error::io("read", &place.src_path, error);
        let src = openat(place.src_dir, place.src_name, flags, Mode::empty()).map_err(fail)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&src).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        self.levels.push(Level {
            src: Some(Arc::new(src)),
            exists: dst.is_some(),
            made: new,
            dst,
            src_path: place.src_path.clone(),
            dst_path: place.dst_path.clone(),
            relative,
            stat,
            include: wanted.include_info,
            exclude: wanted.exclude_info,
            names,
            finish,
            files: Vec::new(),
            bytes: 0,
            pending: Arc::new(()),
        });
        Ok(())
    }

    /// Ends a directory whose entries have all been seen.
    fn finish(&mut self, pool: &mut Pool<'_, '_>, mut level: Level) -> Result<(), Error> {
        if !level.files.is_empty() {
            self.open_level(&mut level)?;
            flush(pool, &mut level)?;
        }
        if level.is_pending() {
            self.waiting.push(level);
        } else {
            self.finish_attributes(level)?;
        }
        // No more wait than threads have batches.
        for at in (0..self.waiting.len()).rev() {
            if !self.waiting[at].is_pending() {
                let level = self.waiting.swap_remove(at);
                self.finish_attributes(level)?;
            }
        }
        Ok(())
    }

    /// Sets the attributes of a directory when all is in it.
    fn finish_attributes(&self, mut level: Level) -> Result<(), Error> {
        if level.finish == Finish::Nothing {
            return Ok(());
        }
        self.open_level(&mut level)?;
        let (Some(src), Some(dst)) = (level.src, level.dst) else { return Ok(()) };
        let attributes = Attributes::new(self.options);
        if level.finish == Finish::Times {
            return attributes.times(&level.stat, dst.as_fd(), &level.dst_path);
        }
        attributes.apply(&level.stat, src.as_fd(), dst.as_fd(), &level.dst_path, false)
    }
}

/// Has the files of a directory copied.
fn flush(pool: &mut Pool<'_, '_>, level: &mut Level) -> Result<(), Error> {
    let (Some(src), Some(dst)) = (&level.src, &level.dst) else { return Ok(()) };
    level.bytes = 0;
    pool.copy(Batch {
        src: src.clone(),
        dst: dst.clone(),
        src_path: level.src_path.clone(),
        dst_path: level.dst_path.clone(),
        files: std::mem::take(&mut level.files),
        new_dir: level.made,
        set_group: level.stat.st_mode & 0o2000 != 0,
        _pending: level.pending.clone(),
    })
}

/// An entry and where it goes.
struct Place<'a> {
    src_dir: BorrowedFd<'a>,
    src_name: &'a CStr,
    /// Nothing while the directory is put off.
    dst_dir: Option<BorrowedFd<'a>>,
    dst_name: &'a CStr,
    src_path: PathBuf,
    dst_path: PathBuf,
}

/// What patterns say of an entry.
#[derive(Default)]
struct Wanted {
    include: bool,
    excluded: bool,
    include_info: MatchInfo,
    exclude_info: MatchInfo,
}

/// The directory of a path without links, and the name in it; `.` for the root.
fn open_parent(root: &Root, path: &Path) -> Result<(OwnedFd, CString), Error> {
    let name = path.file_name().map_or(&b"."[..], |name| name.as_bytes());
    let name = CString::new(name).map_err(|_| Error::io("find", path, Errno::INVAL))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok((root.resolve_no_follow(parent)?.into_fd(), name))
}

fn open_dir(root: &Root, path: &Path) -> Result<OwnedFd, Error> {
    let fd = root.resolve_no_follow(path)?.into_fd();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(&fd, c".", flags, Mode::empty()).map_err(|error| Error::io("open", path, error))
}

/// Makes a directory, or finds it; says whether it was made. One that was there gets the permissions
/// of its source if `overwrite` is set.
fn make_dir(
    parent: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    path: &Path,
    overwrite: bool,
) -> Result<(OwnedFd, bool), Error> {
    let permissions = (stat.st_mode & 0o7777) as RawMode;
    let made = if name == c"." {
        false
    } else {
        // Its own permissions come when all is in it.
        match mkdirat(parent, name, Mode::from_raw_mode(permissions & 0o777 | 0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(Error::io("mkdir", path, error)),
        }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match openat(parent, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(Error::NotDirectory(path.to_owned())),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    if !made && overwrite {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(permissions))
            .map_err(|error| Error::io("chmod", path, error))?;
    }
    Ok((fd, made))
}
