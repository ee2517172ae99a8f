use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use buildkit_util_fsutil::is_settable_xattr;
use buildkit_util_patternmatcher::{MatchInfo, PatternMatcher};
use buildkit_util_system::{Root, Timestamp};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, lgetxattr, linkat, llistxattr, lsetxattr, mkdirat, mknodat, openat, readlinkat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::content::Means;
use crate::dirs::set_times;
use crate::{CopyOptions, Error, Owner, make_dirs, resolve_wildcards};

/// Directories of one tree that are open at a time. Those further up are opened again when the copy
/// comes back to them.
const KEPT_OPEN: usize = 128;

/// Copies `src` of one root to `dst` of another.
///
/// Directories above `dst` are made as needed. If `dst` is a directory that exists, a file gets its
/// own name in it, and so does a directory unless only its content is wanted; otherwise `dst` is what
/// the copy is called. A file replaces a file or link. Directories are merged: those below the source
/// give theirs their attributes, the uppermost keeps its own if it exists.
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
    let mut copier = Copier::new(src_root, dst_root, options)?;
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
        copier.copy_top(&real, &target)?;
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
    src: Option<OwnedFd>,
    dst: Option<OwnedFd>,
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
    /// What is done with its attributes in the end.
    finish: Finish,
}

#[derive(Clone, Copy, PartialEq)]
enum Finish {
    Nothing,
    Times,
    Everything,
}

struct Copier<'a> {
    src_root: &'a Root,
    dst_root: &'a Root,
    options: &'a CopyOptions,
    include: Option<PatternMatcher>,
    exclude: Option<PatternMatcher>,
    /// Where the first name of a file with several was copied to.
    inodes: HashMap<(u64, u64), PathBuf>,
    means: Means,
    levels: Vec<Level>,
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

impl<'a> Copier<'a> {
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
            means: Means::new(),
            levels: Vec::new(),
        })
    }

    /// Copies a path without links to another such path, whose directory exists.
    fn copy_top(&mut self, src: &Path, dst: &Path) -> Result<(), Error> {
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
        self.entry(&top, String::new(), wanted, true)?;
        while !self.levels.is_empty() {
            self.step()?;
        }
        Ok(())
    }

    /// Copies the next entry of the innermost directory, or ends it.
    fn step(&mut self) -> Result<(), Error> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        let Some(name) = level.names.pop() else { return self.finish(level) };
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
        if level.src.is_none() {
            level.src = Some(open_dir(self.src_root, &level.src_path)?);
        }
        if level.exists && level.dst.is_none() {
            level.dst = Some(open_dir(self.dst_root, &level.dst_path)?);
        }
        let os_name = OsStr::from_bytes(name.to_bytes());
        let (src_path, dst_path) = (level.src_path.join(os_name), level.dst_path.join(os_name));
        // The descriptors live as long as this entry, whatever becomes of the level.
        let src_dir = level.src.take();
        let mut dst_dir = level.dst.take();
        let depth = self.levels.len();
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
        self.entry(&place, relative, wanted, false)?;
        if let Some(level) = self.levels.get_mut(depth) {
            level.src = Some(src_dir);
            level.dst = dst_dir;
        }
        if let Some(far) = self.levels.len().checked_sub(KEPT_OPEN) {
            self.levels[far].src = None;
            self.levels[far].dst = None;
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
    fn make_parents(&mut self, innermost: &mut Option<OwnedFd>) -> Result<(), Error> {
        let Some(first) = self.levels.iter().position(|level| !level.exists) else { return Ok(()) };
        for index in first..self.levels.len() {
            let (dir, name) = open_parent(self.dst_root, &self.levels[index].dst_path)?;
            let level = &mut self.levels[index];
            let (fd, made) = make_dir(dir.as_fd(), &name, &level.stat, &level.dst_path, true)?;
            level.exists = true;
            // Made for the sake of what is in it: then it looks like its source as well.
            level.finish = if made { Finish::Everything } else { Finish::Nothing };
            if index + 1 == self.levels.len() {
                *innermost = Some(fd);
            }
        }
        Ok(())
    }

    fn entry(&mut self, place: &Place<'_>, relative: String, wanted: Wanted, top: bool) -> Result<(), Error> {
        let stat = statat(place.src_dir, place.src_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::io("stat", &place.src_path, error))?;
        if is_dir(&stat) {
            return self.directory(place, stat, relative, wanted, top);
        }
        if !wanted.include {
            return Ok(());
        }
        let Some(dst_dir) = place.dst_dir else { return Ok(()) };
        match statat(dst_dir, place.dst_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::io("stat", &place.dst_path, error)),
            Ok(existing) if !is_dir(&existing) => unlinkat(dst_dir, place.dst_name, AtFlags::empty())
                .map_err(|error| Error::io("remove", &place.dst_path, error))?,
            Ok(_) if self.options.always_replace => self.dst_root.remove_all(&place.dst_path)?,
            Ok(_) => return Err(Error::IsDirectory(place.dst_path.clone())),
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                if self.hard_link(&stat, place, dst_dir)? {
                    return Ok(());
                }
                self.regular(&stat, place, dst_dir)?;
            }
            FileType::Symlink => {
                let target = readlinkat(place.src_dir, place.src_name, Vec::new())
                    .map_err(|error| Error::io("read link", &place.src_path, error))?;
                symlinkat(&target, dst_dir, place.dst_name)
                    .map_err(|error| Error::io("create symlink", &place.dst_path, error))?;
            }
            kind => {
                // A socket means nothing without its listener: it becomes an empty file.
                let kind = if kind == FileType::Socket { FileType::RegularFile } else { kind };
                mknodat(dst_dir, place.dst_name, kind, Mode::empty(), stat.st_rdev)
                    .map_err(|error| Error::io("create device", &place.dst_path, error))?;
            }
        }
        self.attributes(&stat, place.source(), dst_dir, place.dst_name, &place.dst_path)
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

    fn regular(&mut self, stat: &Stat, place: &Place<'_>, dst_dir: BorrowedFd<'_>) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut source = openat(place.src_dir, place.src_name, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| Error::io("open source", &place.src_path, error))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut target = openat(dst_dir, place.dst_name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|error| Error::io("open target", &place.dst_path, error))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.means
            .copy(&mut source, &mut target, size, blocks)
            .map_err(|error| Error::io("copy", &place.dst_path, error))
    }

    fn directory(
        &mut self,
        place: &Place<'_>,
        stat: Stat,
        relative: String,
        wanted: Wanted,
        top: bool,
    ) -> Result<(), Error> {
        let (mut dst, mut finish) = (None, Finish::Nothing);
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
            dst = Some(fd);
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
            src: Some(src),
            exists: dst.is_some(),
            dst,
            src_path: place.src_path.clone(),
            dst_path: place.dst_path.clone(),
            relative,
            stat,
            include: wanted.include_info,
            exclude: wanted.exclude_info,
            names,
            finish,
        });
        Ok(())
    }

    /// Sets the attributes of a directory when all is in it.
    fn finish(&mut self, level: Level) -> Result<(), Error> {
        if level.finish == Finish::Nothing {
            return Ok(());
        }
        let dst = match level.dst {
            Some(dst) => dst,
            None => open_dir(self.dst_root, &level.dst_path)?,
        };
        if level.finish == Finish::Times {
            return self.times(&level.stat, dst.as_fd(), c".", &level.dst_path);
        }
        let src = match level.src {
            Some(src) => src,
            None => open_dir(self.src_root, &level.src_path)?,
        };
        self.attributes(&level.stat, (src.as_fd(), c"."), dst.as_fd(), c".", &level.dst_path)
    }

    fn attributes(
        &self,
        stat: &Stat,
        source: (BorrowedFd<'_>, &CStr),
        dst_dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
    ) -> Result<(), Error> {
        let old = Owner { uid: stat.st_uid, gid: stat.st_gid };
        let owner = match &self.options.chown {
            Some(chown) => chown(Some(old)),
            None => Some(old),
        };
        if let Some(owner) = owner {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            chownat(dst_dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| Error::io("chown", path, error))?;
        }
        let symlink = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if !symlink {
            let source_mode = stat.st_mode & 0o7777;
            let mode = match (&self.options.mode_change, self.options.mode) {
                (Some(change), _) => change.apply(source_mode, is_dir(stat)),
                (None, Some(mode)) => mode & 0o7777,
                (None, None) => source_mode,
            };
            chmodat(dst_dir, name, Mode::from_raw_mode(mode as RawMode), AtFlags::empty())
                .map_err(|error| Error::io("chmod", path, error))?;
        }
        self.xattrs(source, (dst_dir, name), path)?;
        self.times(stat, dst_dir, name, path)
    }

    fn times(&self, stat: &Stat, dir: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<(), Error> {
        let spec = |time: Timestamp| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds as _ };
        let times = match self.options.time {
            Some(time) => Timestamps { last_access: spec(time), last_modification: spec(time) },
            None => Timestamps {
                last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
                last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
            },
        };
        utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::io("utime", path, error))
    }

    fn xattrs(
        &self,
        (src_dir, src_name): (BorrowedFd<'_>, &CStr),
        (dst_dir, dst_name): (BorrowedFd<'_>, &CStr),
        path: &Path,
    ) -> Result<(), Error> {
        // The calls take only paths; these lead through our own descriptors.
        let of = |dir: BorrowedFd<'_>, name: &CStr| {
            let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
            path.extend_from_slice(name.to_bytes());
            CString::new(path).unwrap_or_default()
        };
        let source = of(src_dir, src_name);
        let mut list = vec![0u8; 512];
        let names = loop {
            match llistxattr(source.as_c_str(), &mut list) {
                Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
                Ok(len) => break &list[..len],
                // The kernel's limit of a list is 64 KiB.
                Err(Errno::RANGE) if list.len() < 64 << 10 => list = vec![0; 64 << 10],
                Err(_) if self.options.ignore_xattr_errors => return Ok(()),
                Err(error) => return Err(Error::io("list xattrs of", path, error)),
            }
        };
        let target = of(dst_dir, dst_name);
        let mut value = vec![0u8; 64 << 10];
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            if !std::str::from_utf8(name).is_ok_and(is_settable_xattr) {
                continue;
            }
            let result = lgetxattr(source.as_c_str(), name, &mut value)
                .and_then(|len| lsetxattr(target.as_c_str(), name, &value[..len], XattrFlags::empty()));
            match result {
                // Gone meanwhile.
                Ok(()) | Err(Errno::NODATA) => {}
                Err(_) if self.options.ignore_xattr_errors => {}
                Err(error) => return Err(Error::io("copy xattrs of", path, error)),
            }
        }
        Ok(())
    }
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

impl<'a> Place<'a> {
    fn source(&self) -> (BorrowedFd<'a>, &'a CStr) {
        (self.src_dir, self.src_name)
    }
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
