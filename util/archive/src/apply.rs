use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use buildkit_util_compression::Limits;
use buildkit_util_overlay::Stack;
use buildkit_util_system::{FileKind, Root, Timestamp, in_user_namespace};
use rustix::fs::{AtFlags, FileType, linkat, makedev};
use rustix::io::Errno;

use crate::changes::file_type;
use crate::header::{Header, kind};
use crate::layer::WHITEOUT;
use crate::parents::{Parent, Parents, clean, fail};
use crate::place::{self, Failure, Metadata};
use crate::{Error, Reader, copyup, windows};

/// What makes a directory opaque, in place of a name after the prefix of whiteouts.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a layer says is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// The directory is a layer of an overlay: what is gone becomes a device that hides what other layers have.
    Overlay {
        /// Overlays are mounted with `userxattr`: opaque directories are marked with an attribute of users.
        userxattr: bool,
    },
    /// The directory has the whole tree below the layer: what is gone is removed.
    Remove,
}

/// How a layer is applied.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions<'a> {
    /// What is done with what the layer deletes.
    pub whiteouts: Whiteouts,
    /// The layers below, for [`Whiteouts::Overlay`]. A hard link to a file in them copies it, and directories
    /// that the layer has no entry for get their metadata; without it both are [`Error::NeedsLower`].
    pub lower: Option<&'a Stack>,
    /// It is a layer of Windows: only what is below its `Files` is applied.
    pub windows: bool,
    /// How much larger than its data a sparse file may be. The stream itself is limited by who decompresses it.
    pub limits: Limits,
}

impl<'a> ApplyOptions<'a> {
    /// Nothing known of layers below, and the limits that all have.
    pub fn new(whiteouts: Whiteouts) -> Self {
        Self { whiteouts, lower: None, windows: false, limits: Limits::default() }
    }

    /// Sets the layers below.
    pub fn with_lower(mut self, lower: Option<&'a Stack>) -> Self {
        self.lower = lower;
        self
    }
}

/// What a layer had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries, whiteouts among them.
    pub entries: u64,
    /// Bytes of content of all files, holes counted. Not what they occupy.
    pub size: u64,
}

/// Applies a layer, an archive that is not compressed, to the existing directory `root`, and reads `input` to its
/// end, so that whoever hashes it has seen all of it.
///
/// Names and symbolic links in the layer lead nowhere but into `root`: `..` and absolute paths end there, in the
/// kernel (`openat2`). What is at the path of an entry is replaced, but a directory by a directory, which only
/// gets its metadata. Entries for the root itself are passed over. Owners, modes, times (those before 1970 become
/// 1970), devices and extended attributes are as the layer says, but for `trusted.*` and what overlayfs keeps for
/// itself, which no layer can set. In a user namespace devices are passed over.
///
/// The directory must not be changed by others meanwhile; if they do, the result is undefined, but nothing
/// outside is touched. After an error the directory holds a part of the layer, and is the caller's to remove.
///
/// # Errors
/// When the archive is not valid or cannot be read, an entry cannot be made, or does not belong in a layer:
/// whiteouts of nothing, of `.` or of `..`, links to what is not there, a root that is not a directory, types of
/// entries that are not files, owners that are not numbers of 32 bits.
pub fn apply_layer(root: &Path, input: &mut dyn Read, options: &ApplyOptions<'_>) -> Result<Applied, Error> {
    let opened = Root::open(root).map_err(|error| fail("open the directory", root, error))?;
    let mut reader = Reader::new(input).with_limits(options.limits);
    let mut applier = Applier {
        path: root,
        parents: Parents::new(opened, options.lower, options.whiteouts != Whiteouts::Remove),
        options,
        written: HashSet::new(),
        hasher: RandomState::new(),
        dirs: Vec::new(),
        applied: Applied::default(),
        root_is_opaque: false,
    };
    while let Some(mut header) = reader.entry()? {
        if options.windows && !windows::unwrap(&mut header) {
            continue;
        }
        applier.entry(&header, &mut reader)?;
    }
    applier.finish()?;
    if applier.root_is_opaque && applier.is_overlay() && options.lower.is_none() {
        // The kernel does not look whether a root is opaque: what it hides has to be named.
        return Err(Error::NeedsLower(PathBuf::from("/")));
    }
    if let (true, Some(lower)) = (applier.root_is_opaque, options.lower) {
        applier.hide_root(lower)?;
    }
    reader.drain()?;
    Ok(applier.applied)
}

pub(crate) struct Applier<'a> {
    path: &'a Path,
    pub(crate) parents: Parents<'a>,
    pub(crate) options: &'a ApplyOptions<'a>,
    /// Hashes of what this layer has put into the tree, by parent directory and name: an opaque directory keeps
    /// that. Only for [`Whiteouts::Remove`].
    pub(crate) written: HashSet<u64>,
    hasher: RandomState,
    /// Directories whose times are set when all is in place: path, inode if it is known, times.
    dirs: Vec<(PathBuf, Option<u64>, (Timestamp, Timestamp))>,
    applied: Applied,
    pub(crate) root_is_opaque: bool,
}

/// Where an entry goes.
pub(crate) struct Place {
    pub path: PathBuf,
    pub parent: Rc<Parent>,
    pub name: OsString,
}

impl Applier<'_> {
    fn entry(&mut self, header: &Header, reader: &mut Reader<&mut dyn Read>) -> Result<(), Error> {
        // Records for all that follows; the original makes no use of them either.
        if header.kind == kind::PAX_GLOBAL {
            return Ok(());
        }
        let path = clean(&header.name);
        self.applied.entries += 1;
        self.applied.size = self.applied.size.saturating_add_signed(header.size.max(0));
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return match header.kind {
                kind::DIRECTORY => Ok(()),
                _ => Err(Error::refused("/", "the root of a tree is a directory")),
            };
        };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        let place = Place { path, parent, name };
        if place.name.as_bytes() == OPAQUE {
            return self.make_opaque(&place);
        }
        if let Some(hidden) = place.name.as_bytes().strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(Error::refused(&place.path, "it is a whiteout of nothing"));
            }
            let name = OsStr::from_bytes(hidden).to_owned();
            return self.hide(&Place { path: place.path.with_file_name(&name), name, ..place });
        }
        self.put(header, &place, reader)?;
        self.mark(place.parent.inode, &place.name);
        Ok(())
    }

    fn parent(&mut self, path: &Path) -> Result<Rc<Parent>, Error> {
        let parent = self.parents.find(path)?;
        for (path, times) in self.parents.take_made() {
            self.mark_path(&path)?;
            if let Some(times) = times {
                self.dirs.push((path, None, times));
            }
        }
        Ok(parent)
    }

    fn put(
        &mut self,
        header: &Header,
        place: &Place,
        reader: &mut Reader<&mut dyn Read>,
    ) -> Result<(), Error> {
        let Place { path, parent, name } = place;
        let metadata = Metadata::new(path, header)?;
        let mut replaces = false;
        loop {
            match self.try_put(header, place, &metadata, reader) {
                Ok(()) => break,
                Err(Failure::Other(error)) => return Err(error),
                // Once: what is removed does not come back unless somebody else puts it there.
                Err(Failure::Exists) if replaces => {
                    return Err(Error::io("replace", path, Errno::EXIST));
                }
                Err(Failure::Exists) => {
                    self.remove(place)?;
                    replaces = true;
                }
            }
        }
        if replaces && header.kind == kind::DIRECTORY && self.is_overlay() {
            // What stood here hid what is below; the directory must go on doing so.
            let handle = parent.root.resolve_no_follow(name);
            self.set_opaque(&handle.map_err(|error| fail("open", path, error))?, path)?;
        }
        Ok(())
    }

    fn try_put(
        &mut self,
        header: &Header,
        place: &Place,
        metadata: &Metadata<'_>,
        reader: &mut Reader<&mut dyn Read>,
    ) -> Result<(), Failure> {
        let Place { path, parent, name } = place;
        let device = || match (u32::try_from(header.devmajor), u32::try_from(header.devminor)) {
            (Ok(major), Ok(minor)) => Ok(makedev(major, minor)),
            _ => Err(Error::refused(path, "its device number is out of bounds")),
        };
        match header.kind {
            kind::REGULAR | kind::GNU_SPARSE => return place::file(parent, name, path, metadata, reader),
            kind::DIRECTORY => {
                let inode = place::directory(parent, name, path, metadata)?;
                self.dirs.push((path.clone(), Some(inode), metadata.times));
                return Ok(());
            }
            kind::SYMLINK => match parent.root.symlink(OsStr::from_bytes(&header.link), name) {
                Err(error) if is(&error, Errno::EXIST) => return Err(Failure::Exists),
                made => made.map_err(|error| fail("create", path, error))?,
            },
            kind::LINK => self.link(header, place)?,
            kind::FIFO => place::node(parent, name, path, FileType::Fifo, 0)?,
            kind::CHAR_DEVICE | kind::BLOCK_DEVICE => {
                let file_type = match header.kind {
                    kind::CHAR_DEVICE => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                match place::node(parent, name, path, file_type, device()?) {
                    Err(Failure::Other(Error::Io { source, .. }))
                        if source.kind() == std::io::ErrorKind::PermissionDenied && in_user_namespace() =>
                    {
                        tracing::warn!(path = %path.display(), "Device of a layer is left out in a user namespace");
                        return Ok(());
                    }
                    made => made?,
                }
            }
            _ => return Err(Error::refused(path, "its type does not belong in a layer").into()),
        }
        let handle = parent.root.resolve_no_follow(name).map_err(|error| fail("open", path, error))?;
        Ok(metadata.set(&handle, path)?)
    }

    fn link(&mut self, header: &Header, place: &Place) -> Result<(), Failure> {
        let Place { path, parent, name } = place;
        let target = clean(&header.link);
        let missing = || Error::io("link", path, Errno::NOENT);
        let Some(target_name) = target.file_name() else {
            return Err(Error::refused(path, "it is a link to the root").into());
        };
        let target_dir = target.parent().unwrap_or(Path::new(""));
        let mut source = self.parents.find_existing(target_dir)?;
        let found = match &source {
            Some(source) => match source.lstat(target_name) {
                Ok(stat) => Some(stat),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(fail("link", path, error).into()),
            },
            None => None,
        };
        match found {
            // It stands for nothing.
            Some(stat) if self.is_overlay() && stat.kind == FileKind::CharDevice && stat.rdev == 0 => {
                return Err(missing().into());
            }
            Some(_) => {}
            None => {
                if !self.is_overlay() {
                    return Err(missing().into());
                }
                let lower = self.options.lower.ok_or_else(|| Error::NeedsLower(target.clone()))?;
                let node = copyup::find(self.path, lower, &target)?.ok_or_else(missing)?;
                let parent = self.parent(target_dir)?;
                copyup::copy(&node, &parent.root, target_name, &target)?;
                source = self.parents.find_existing(target_dir)?;
            }
        }
        let source = source.ok_or_else(missing)?;
        match linkat(&source, target_name, &parent.root, name, AtFlags::empty()) {
            Err(Errno::EXIST) => Err(Failure::Exists),
            made => made.map_err(|error| Error::io("link", path, error).into()),
        }
    }

    pub(crate) fn remove(&mut self, place: &Place) -> Result<(), Error> {
        let Place { path, parent, name } = place;
        let stat = place::stat(parent, name).map_err(|error| Error::io("find", path, error))?;
        let Some(stat) = stat else { return Ok(()) };
        if matches!(file_type(&stat), FileType::Directory | FileType::Symlink) {
            self.parents.forget();
        }
        parent.root.remove_all(name).map_err(|error| fail("remove", path, error))
    }

    pub(crate) fn is_overlay(&self) -> bool {
        matches!(self.options.whiteouts, Whiteouts::Overlay { .. })
    }

    pub(crate) fn hash(&self, parent: u64, name: &OsStr) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    fn mark(&mut self, parent: u64, name: &OsStr) {
        if !self.is_overlay() {
            self.written.insert(self.hash(parent, name));
        }
    }

    fn mark_path(&mut self, path: &Path) -> Result<(), Error> {
        if self.is_overlay() {
            return Ok(());
        }
        if let Some(name) = path.file_name() {
            let above = path.parent().unwrap_or(Path::new(""));
            let stat = self.parents.root().lstat(above).map_err(|error| fail("find", path, error))?;
            self.mark(stat.ino, name);
        }
        Ok(())
    }

    /// Sets the times of directories, which nothing changes any more.
    fn finish(&mut self) -> Result<(), Error> {
        for (path, inode, (atime, mtime)) in std::mem::take(&mut self.dirs) {
            // Something else may have taken its place.
            let handle = match self.parents.root().resolve_no_follow(&path) {
                Err(error) if error.is_not_found() || is(&error, Errno::NOTDIR) => continue,
                found => found.map_err(|error| fail("open", &path, error))?,
            };
            let stat = handle.stat().map_err(|error| fail("read the attributes of", &path, error))?;
            if stat.is_dir() && inode.is_none_or(|inode| inode == stat.ino) {
                handle
                    .set_times(Some(atime), Some(mtime))
                    .map_err(|error| fail("change the times of", &path, error))?;
            }
        }
        Ok(())
    }
}

fn is(error: &buildkit_util_system::Error, errno: Errno) -> bool {
    error.errno() == Some(errno.raw_os_error())
}
