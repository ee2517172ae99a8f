//! Writes what a stream of changes says, confined to one directory.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use buildkit_errdefs::BoxError;
use buildkit_util_cachedigest::Digest;
use buildkit_util_fsutil_types::Stat;
use buildkit_util_system::Root;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fsetxattr, fstat, futimens, linkat, makedev, mkdirat, mknodat, openat, renameat, statat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::confine::{DirCache, open_beneath, split};
use crate::stat::is_settable_xattr;
use crate::{Error, mode};

/// Changes the attributes that an entry gets on disk; `false` leaves the entry out.
pub type FilterFn = Arc<dyn Fn(&str, &mut Stat) -> bool + Send + Sync>;

/// A change that was made to the destination.
#[derive(Debug)]
pub enum Change<'a> {
    /// Something, and everything below it, was removed.
    Delete {
        /// What was removed.
        path: &'a str,
    },
    /// An entry was made, replaced, or got other attributes.
    Add {
        /// As the peer sent it, before any filter.
        stat: &'a Stat,
        /// What the entry's hasher gave for its content.
        digest: Digest,
    },
}

/// Computes the digest of one entry while its content arrives.
pub trait ContentHasher: Send {
    /// Takes the next part of a file's content.
    fn update(&mut self, data: &[u8]);
    /// The digest of attributes and content.
    fn finish(self: Box<Self>) -> Digest;
}

/// Is told of every change to the destination, as it is made. Calls come from one thread at a time;
/// the order of files is the order in which they are complete.
pub trait ContentHook: Send {
    /// Called once, before the first change is made. Without changes it is not called.
    ///
    /// # Errors
    /// Any error ends the transfer.
    fn begin(&mut self) -> Result<(), BoxError> {
        Ok(())
    }
    /// A hasher for an entry; content follows only for regular files that are no hard links.
    ///
    /// # Errors
    /// Any error ends the transfer.
    fn hasher(&mut self, stat: &Stat) -> Result<Box<dyn ContentHasher>, BoxError>;
    /// A change was made.
    ///
    /// # Errors
    /// Any error ends the transfer.
    fn change(&mut self, change: Change<'_>) -> Result<(), BoxError>;
}

/// Files that are open at a time. Honest senders interleave a few.
const MAX_OPEN: usize = 64;

/// A file whose content arrives.
struct Incoming {
    stat: Stat,
    applied: Stat,
    /// Name that it is written under if something else has its own name until it is complete.
    temporary: Option<String>,
    /// Closed when too many others are open.
    file: Option<File>,
    hasher: Option<Box<dyn ContentHasher>>,
    size: u64,
    /// Whether the end was skipped over, not written.
    hole_at_end: bool,
}

/// What is at a path now.
#[derive(Clone, Copy, PartialEq)]
enum Existing {
    Nothing,
    Directory,
    Other,
}

pub(crate) struct DiskWriter {
    root: Root,
    dirs: DirCache,
    filter: Option<FilterFn>,
    hook: Option<Box<dyn ContentHook>>,
    /// Files that were asked for, by id, before their first data.
    wanted: HashMap<u32, (Stat, Stat, bool)>,
    incoming: HashMap<u32, Incoming>,
    open: usize,
    /// Directories whose attributes are set in the end, outermost first.
    directories: Vec<Stat>,
    /// Directories that stay as they are but for their times, which change with their entries.
    unchanged: HashMap<String, i64>,
    touched: HashSet<String>,
    links: Vec<Stat>,
    temporaries: u64,
    begun: bool,
}

impl DiskWriter {
    pub(crate) fn new(
        root: Root,
        filter: Option<FilterFn>,
        hook: Option<Box<dyn ContentHook>>,
    ) -> Result<Self, Error> {
        let fd = root.as_fd().try_clone_to_owned().map_err(|error| Error::io("open", "", error))?;
        Ok(Self {
            root,
            dirs: DirCache::new(fd),
            filter,
            hook,
            wanted: HashMap::new(),
            incoming: HashMap::new(),
            open: 0,
            directories: Vec::new(),
            unchanged: HashMap::new(),
            touched: HashSet::new(),
            links: Vec::new(),
            temporaries: 0,
            begun: false,
        })
    }

    /// Whether files that were asked for are not complete.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.wanted.is_empty() || !self.incoming.is_empty()
    }

    /// Remembers a directory that needs no change.
    pub(crate) fn keep_directory(&mut self, stat: &Stat) {
        self.unchanged.insert(stat.path.clone(), stat.mod_time);
    }

    /// Tells that changes are coming.
    fn begin(&mut self) -> Result<(), Error> {
        if !std::mem::replace(&mut self.begun, true)
            && let Some(hook) = &mut self.hook
        {
            hook.begin().map_err(Error::Hook)?;
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, path: &str) -> Result<(), Error> {
        if let Some(filter) = &self.filter
            && !filter(path, &mut Stat::default())
        {
            return Ok(());
        }
        self.begin()?;
        self.remove_all(path)?;
        if let Some(hook) = &mut self.hook {
            hook.change(Change::Delete { path }).map_err(Error::Hook)?;
        }
        Ok(())
    }

    fn remove_all(&mut self, path: &str) -> Result<(), Error> {
        self.dirs.forget(path);
        self.touch(path);
        self.root.remove_all(path).map_err(|error| Error::io("remove", path, std::io::Error::other(error)))
    }

    /// Notes that the directory of `path` gets another time.
    fn touch(&mut self, path: &str) {
        let dir = split(path).0;
        if !dir.is_empty() && !self.touched.contains(dir) {
            self.touched.insert(dir.to_owned());
        }
    }

    /// Makes an entry, replacing what is there. `true` when the content of file `id` is needed.
    pub(crate) fn put(&mut self, id: u32, stat: Stat, old: Option<&Stat>) -> Result<bool, Error> {
        let mut applied = stat.clone();
        if let Some(filter) = &self.filter
            && !filter(&stat.path, &mut applied)
        {
            return Ok(false);
        }
        self.begin()?;
        let existing = match old {
            None => Existing::Nothing,
            Some(old) if mode::is_dir(old.mode) => Existing::Directory,
            Some(_) => Existing::Other,
        };
        self.touch(&stat.path);
        if mode::is_dir(stat.mode) {
            self.make_directory(&applied, existing)?;
            self.directories.push(applied);
        } else if mode::is_regular(stat.mode) && stat.linkname.is_empty() {
            if existing == Existing::Directory {
                self.remove_all(&stat.path)?;
            }
            self.wanted.insert(id, (stat, applied, existing == Existing::Other));
            return Ok(true);
        } else if mode::is_regular(stat.mode) {
            if existing == Existing::Directory {
                self.remove_all(&stat.path)?;
            }
            // The file it is a link to may not be complete.
            self.links.push(applied);
        } else {
            self.make_node(&applied, existing)?;
        }
        self.notify(&stat)?;
        Ok(false)
    }

    /// Tells of an entry without content.
    fn notify(&mut self, stat: &Stat) -> Result<(), Error> {
        if let Some(hook) = &mut self.hook {
            let digest = hook.hasher(stat).map_err(Error::Hook)?.finish();
            hook.change(Change::Add { stat, digest }).map_err(Error::Hook)?;
        }
        Ok(())
    }

    /// What is at a path, for when the tree was not compared before.
    fn look(&mut self, path: &str) -> Result<Existing, Error> {
        let (dir, name) = split(path);
        let fail = |error| Error::io("lstat", path, error);
        let dir = self.dirs.open(dir).map_err(fail)?;
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(st) if FileType::from_raw_mode(st.st_mode) == FileType::Directory => Ok(Existing::Directory),
            Ok(_) => Ok(Existing::Other),
            Err(Errno::NOENT) => Ok(Existing::Nothing),
            Err(error) => Err(fail(error)),
        }
    }

    fn make_directory(&mut self, stat: &Stat, mut existing: Existing) -> Result<(), Error> {
        let path = stat.path.as_str();
        let (dir, name) = split(path);
        for _ in 0..8 {
            match existing {
                Existing::Directory => return Ok(()),
                Existing::Other => self.remove_all(path)?,
                Existing::Nothing => {}
            }
            // Entries must be made in it before it gets its own mode.
            let mode = Mode::from_raw_mode(mode::permissions(stat.mode) as RawMode & 0o777 | 0o700);
            let parent = self.dirs.open(dir).map_err(|error| Error::io("create dir", path, error))?;
            match mkdirat(parent, name, mode) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => existing = self.look(path)?,
                Err(error) => return Err(Error::io("create dir", path, error)),
            }
        }
        Err(Error::io("create dir", path, Errno::EXIST))
    }

    /// Makes a symbolic link, device or pipe.
    fn make_node(&mut self, stat: &Stat, mut existing: Existing) -> Result<(), Error> {
        let path = stat.path.as_str();
        let (dir, name) = split(path);
        let symlink = mode::is_symlink(stat.mode);
        let action = if symlink { "symlink" } else { "create device" };
        let fail = |error: Errno| Error::io(action, path, error);
        for _ in 0..8 {
            if existing != Existing::Nothing {
                self.remove_all(path)?;
            }
            let parent = self.dirs.open(dir).map_err(fail)?;
            let made = if symlink {
                symlinkat(stat.linkname.as_str(), parent, name)
            } else {
                let kind = if stat.mode & mode::CHAR_DEVICE != 0 {
                    FileType::CharacterDevice
                } else if stat.mode & mode::NAMED_PIPE != 0 {
                    FileType::Fifo
                } else if stat.mode & mode::DEVICE != 0 {
                    FileType::BlockDevice
                } else {
                    return Err(Error::Protocol(format!("unknown file type of {path}")));
                };
                let number = |value: i64| u32::try_from(value).map_err(|_| fail(Errno::INVAL));
                let device = makedev(number(stat.devmajor)?, number(stat.devminor)?);
                mknodat(parent, name, kind, Mode::empty(), device)
            };
            match made {
                Ok(()) => {
                    let fail = |error| Error::io("set metadata of", path, error);
                    let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
                    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                    if !symlink {
                        let mode = Mode::from_raw_mode(mode::permissions(stat.mode) as RawMode);
                        chmodat(parent, name, mode, AtFlags::empty()).map_err(fail)?;
                    }
                    return utimensat(parent, name, &times(stat.mod_time), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(fail);
                }
                Err(Errno::EXIST) => existing = Existing::Other,
                Err(error) => return Err(fail(error)),
            }
        }
        Err(fail(Errno::EXIST))
    }

    /// Takes the next part of file `id`; an empty one is its end.
    pub(crate) fn data(&mut self, id: u32, data: &[u8]) -> Result<(), Error> {
        if let Some((stat, applied, replaces)) = self.wanted.remove(&id) {
            let incoming = self.create(stat, applied, replaces)?;
            self.incoming.insert(id, incoming);
        }
        let Some(incoming) = self.incoming.get_mut(&id) else {
            return Err(Error::Protocol(format!("invalid file request {id}")));
        };
        if data.is_empty() {
            let Some(incoming) = self.incoming.remove(&id) else { return Ok(()) };
            return self.complete(incoming);
        }
        if incoming.file.is_none() {
            self.reopen(id)?;
        }
        let Some(incoming) = self.incoming.get_mut(&id) else { return Ok(()) };
        let Some(file) = &mut incoming.file else { return Ok(()) };
        let fail = |error| Error::io("write", &incoming.stat.path, error);
        incoming.size += data.len() as u64;
        incoming.hole_at_end = data.len() >= 4096 && data.iter().all(|&byte| byte == 0);
        if incoming.hole_at_end {
            file.seek(SeekFrom::Start(incoming.size)).map_err(fail)?;
        } else {
            file.write_all(data).map_err(fail)?;
        }
        if let Some(hasher) = &mut incoming.hasher {
            hasher.update(data);
        }
        Ok(())
    }

    fn create(&mut self, stat: Stat, applied: Stat, mut replaces: bool) -> Result<Incoming, Error> {
        self.make_room()?;
        let hasher = match &mut self.hook {
            Some(hook) => Some(hook.hasher(&stat).map_err(Error::Hook)?),
            None => None,
        };
        let path = applied.path.as_str();
        let (dir, name) = split(path);
        let fail = |error| Error::io("create", path, error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Never with set-id bits: the owner is not right yet.
        let mode = Mode::from_raw_mode(applied.mode as RawMode & 0o777);
        for _ in 0..1024 {
            let temporary = replaces.then(|| {
                self.temporaries += 1;
                format!(".tmp.{}.{}", std::process::id(), self.temporaries)
            });
            let parent = self.dirs.open(dir).map_err(fail)?;
            match openat(parent, temporary.as_deref().unwrap_or(name), flags, mode) {
                Ok(fd) => {
                    self.open += 1;
                    return Ok(Incoming {
                        stat,
                        applied,
                        temporary,
                        file: Some(File::from(fd)),
                        hasher,
                        size: 0,
                        hole_at_end: false,
                    });
                }
                Err(Errno::EXIST) if !replaces => {
                    if self.look(path)? == Existing::Directory {
                        self.remove_all(path)?;
                    } else {
                        replaces = true;
                    }
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Err(fail(Errno::EXIST))
    }

    /// Closes a file if too many are open.
    fn make_room(&mut self) -> Result<(), Error> {
        if self.open >= MAX_OPEN
            && let Some(other) = self.incoming.values_mut().find(|other| other.file.is_some())
        {
            if other.hole_at_end
                && let Some(file) = &other.file
            {
                file.set_len(other.size).map_err(|error| Error::io("write", &other.stat.path, error))?;
            }
            other.file = None;
            self.open -= 1;
        }
        Ok(())
    }

    fn reopen(&mut self, id: u32) -> Result<(), Error> {
        self.make_room()?;
        let Some(incoming) = self.incoming.get_mut(&id) else { return Ok(()) };
        let (dir, name) = split(&incoming.applied.path);
        let fail = |error| Error::io("open", &incoming.applied.path, error);
        let name = incoming.temporary.as_deref().unwrap_or(name);
        let parent = self.dirs.open(dir).map_err(fail)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(parent, name, flags, Mode::empty()).map_err(fail)?);
        file.seek(SeekFrom::Start(incoming.size))
            .map_err(|error| Error::io("open", &incoming.applied.path, error))?;
        incoming.file = Some(file);
        self.open += 1;
        Ok(())
    }

    fn complete(&mut self, mut incoming: Incoming) -> Result<(), Error> {
        let path = incoming.applied.path.clone();
        // Senders that cannot read a file (any more) send it as empty.
        if u64::try_from(incoming.stat.size).is_ok_and(|told| incoming.size < told) {
            let reason = format!("{} of {} bytes arrived", incoming.size, incoming.stat.size);
            return Err(Error::changed(&path, reason));
        }
        let file = match incoming.file.take() {
            Some(file) => {
                self.open -= 1;
                file
            }
            None => {
                let (dir, name) = split(&path);
                let fail = |error| Error::io("open", &path, error);
                let name = incoming.temporary.as_deref().unwrap_or(name);
                let parent = self.dirs.open(dir).map_err(fail)?;
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                File::from(openat(parent, name, flags, Mode::empty()).map_err(fail)?)
            }
        };
        if incoming.hole_at_end {
            file.set_len(incoming.size).map_err(|error| Error::io("write", &path, error))?;
        }
        set_metadata(&file, &incoming.applied).map_err(|error| Error::io("set metadata of", &path, error))?;
        if let Some(temporary) = &incoming.temporary {
            let (dir, name) = split(&path);
            let fail = |error| Error::io("rename", &path, error);
            let parent = self.dirs.open(dir).map_err(fail)?;
            match renameat(parent, temporary.as_str(), parent, name) {
                Err(Errno::ISDIR) => {
                    self.remove_all(&path)?;
                    let parent = self.dirs.open(dir).map_err(fail)?;
                    renameat(parent, temporary.as_str(), parent, name).map_err(fail)?;
                }
                other => other.map_err(fail)?,
            }
        }
        drop(file);
        let Some(hasher) = incoming.hasher else { return Ok(()) };
        let told = u64::try_from(incoming.stat.size).unwrap_or(0);
        let digest = if told == incoming.size {
            hasher.finish()
        } else {
            incoming.stat.size = i64::try_from(incoming.size).unwrap_or(i64::MAX);
            self.hash_again(&incoming.stat, &path)?
        };
        if let Some(hook) = &mut self.hook {
            hook.change(Change::Add { stat: &incoming.stat, digest }).map_err(Error::Hook)?;
        }
        Ok(())
    }

    /// The digest of a file that has grown since its attributes were sent. They are hashed before the
    /// content, so the digest made meanwhile is that of a file which does not exist.
    fn hash_again(&mut self, stat: &Stat, path: &str) -> Result<Digest, Error> {
        let (dir, name) = split(path);
        let fail = |error| Error::io("open", path, error);
        let parent = self.dirs.open(dir).map_err(fail)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(parent, name, flags, Mode::empty()).map_err(fail)?);
        let Some(hook) = &mut self.hook else { return Err(fail(Errno::INVAL)) };
        let mut hasher = hook.hasher(stat).map_err(Error::Hook)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(len) => hasher.update(&buffer[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", path, error)),
            }
        }
    }

    /// Makes hard links and sets the attributes of directories, once all files are complete.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        for stat in std::mem::take(&mut self.links) {
            self.link(&stat)?;
        }
        for stat in std::mem::take(&mut self.directories).iter().rev() {
            self.touched.remove(&stat.path);
            let fail = |error| Error::io("set dir metadata of", &stat.path, error);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let dir = open_beneath(self.dirs.root(), &stat.path, flags).map_err(fail)?;
            set_metadata(&dir, stat).map_err(fail)?;
        }
        for path in std::mem::take(&mut self.touched) {
            let Some(&mod_time) = self.unchanged.get(&path) else { continue };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            // A directory that nobody may read keeps the time it has.
            if let Ok(dir) = open_beneath(self.dirs.root(), &path, flags) {
                futimens(&dir, &times(mod_time))
                    .map_err(|error| Error::io("set dir metadata of", &path, error))?;
            }
        }
        Ok(())
    }

    fn link(&mut self, stat: &Stat) -> Result<(), Error> {
        let fail = |error| Error::Io {
            action: "link",
            path: format!("{} to {}", stat.path, stat.linkname),
            source: std::io::Error::from(error),
        };
        let (target_dir, target) = split(&stat.linkname);
        let (dir, name) = split(&stat.path);
        let from: OwnedFd = self
            .dirs
            .open(target_dir)
            .map_err(fail)?
            .try_clone_to_owned()
            .map_err(|error| Error::io("link", &stat.path, error))?;
        for _ in 0..8 {
            let to = self.dirs.open(dir).map_err(fail)?;
            match linkat(&from, target, to, name, AtFlags::empty()) {
                Err(Errno::EXIST) => self.remove_all(&stat.path)?,
                other => return other.map_err(fail),
            }
        }
        Err(fail(Errno::EXIST))
    }

    /// Replaces a file in the root with one that is owned by this process.
    pub(crate) fn write_root_file(&mut self, name: &str, data: &[u8]) -> Result<(), Error> {
        self.remove_all(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(self.dirs.root(), name, flags, Mode::from_raw_mode(0o644))
            .map_err(|error| Error::io("create", name, error))?;
        File::from(fd).write_all(data).map_err(|error| Error::io("write", name, error))
    }
}

pub(crate) fn times(mod_time: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: mod_time.div_euclid(1_000_000_000),
        tv_nsec: mod_time.rem_euclid(1_000_000_000) as _,
    };
    Timestamps { last_access: time, last_modification: time }
}

/// Owner, then attributes and mode, which a change of owner takes away, then the time. What is as it
/// should be is not written again.
fn set_metadata(file: impl AsFd, stat: &Stat) -> rustix::io::Result<()> {
    let file = file.as_fd();
    let now = fstat(file)?;
    let mode = mode::permissions(stat.mode);
    let mut mode_differs = now.st_mode & 0o7777 != mode;
    if now.st_uid != stat.uid || now.st_gid != stat.gid {
        fchown(file, Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid)))?;
        mode_differs |= mode & 0o6000 != 0;
    }
    for (name, value) in &stat.xattrs {
        if is_settable_xattr(name) {
            // Which attributes can be set depends on the file system and on privileges; those that
            // cannot are left out.
            let _ = fsetxattr(file, name.as_str(), value, XattrFlags::empty());
            mode_differs = true;
        }
    }
    if mode_differs {
        fchmod(file, Mode::from_raw_mode(mode as RawMode))?;
    }
    futimens(file, &times(stat.mod_time))
}
