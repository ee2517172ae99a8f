use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use buildkit_util_overlay::Stack;
use rustix::fs::{FileType, Mode, OFlags, Stat, major, minor};

use crate::changes::{Change, changes, file_type};
use crate::header::{Format, Header, Time, XATTR, kind};
use crate::{Error, Writer, windows};

/// Bytes that are read or written at a time.
const BUFFER: usize = 256 << 10;
/// What names of whiteouts begin with.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
const CAPABILITY: &str = "security.capability";

/// How a layer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// It is a layer of Windows.
    pub windows: bool,
}

/// Writes what changes from `lower` to `upper` as a layer, an archive that is not compressed. Either tree may
/// be empty.
///
/// The bytes are those that the original writes for the same trees: for one layer on top of `lower` those of
/// its overlay differ, otherwise those of its walking differ. Paths are in the order of their bytes, directories
/// before what is in them, and unchanged directories above a change are included. Times are whole seconds, owners
/// have no names, sockets are left out, and of extended attributes there are only file capabilities.
///
/// The trees must not change meanwhile. Whoever wants to stop it lets `out` fail.
///
/// # Errors
/// When a tree cannot be read or `out` fails; what was written is of no use then.
pub fn write_layer(
    lower: Option<&Stack>,
    upper: Option<&Stack>,
    out: &mut dyn Write,
    options: &WriteOptions,
) -> Result<(), Error> {
    let mut layer = LayerWriter {
        tar: Writer::new(BufWriter::with_capacity(BUFFER, out)),
        upper,
        options,
        first_names: HashMap::new(),
        unchanged_names: HashMap::new(),
        dirs: HashSet::new(),
        buffer: vec![0; BUFFER],
    };
    if options.windows {
        for header in windows::first_entries() {
            layer.tar.entry(&header)?;
        }
    }
    changes(lower, upper, &mut |change| match change {
        Change::Put { path, source, stat } => layer.put(path, source, stat),
        Change::Same { path, stat } => layer.same(path, stat),
        Change::Delete { path } => layer.delete(path),
    })?;
    layer.tar.finish()?.flush().map_err(Error::Write)
}

struct LayerWriter<'a> {
    tar: Writer<BufWriter<&'a mut dyn Write>>,
    upper: Option<&'a Stack>,
    options: &'a WriteOptions,
    /// Where files with several names were written, by their inodes.
    first_names: HashMap<u64, Vec<u8>>,
    /// Names of unchanged files, which become links if the file is written under another name.
    unchanged_names: HashMap<u64, Vec<Vec<u8>>>,
    /// Directories that were written.
    dirs: HashSet<PathBuf>,
    buffer: Vec<u8>,
}

impl LayerWriter<'_> {
    fn delete(&mut self, path: &Path) -> Result<(), Error> {
        let mut name = WHITEOUT.to_vec();
        name.extend_from_slice(path.file_name().unwrap_or_default().as_bytes());
        let path = path.with_file_name(OsStr::from_bytes(&name));
        let epoch = Some(Time::default());
        let header = Header {
            kind: kind::REGULAR,
            name: path.as_os_str().as_bytes().to_vec(),
            mtime: epoch,
            atime: epoch,
            ctime: epoch,
            ..Header::default()
        };
        self.entry(&header)
    }

    /// An unchanged file with several names is written if one of them is new.
    fn same(&mut self, path: &Path, stat: &Stat) -> Result<(), Error> {
        if file_type(stat) == FileType::Socket {
            return Ok(());
        }
        let name = path.as_os_str().as_bytes().to_vec();
        match self.first_names.get(&stat.st_ino) {
            None => {
                self.unchanged_names.entry(stat.st_ino).or_default().push(name);
                Ok(())
            }
            Some(_) => {
                let node = self.upper.map(|upper| upper.lookup(path)).transpose();
                let node = node.map_err(|error| Error::io("read", path, error))?.flatten();
                match node {
                    Some(node) => self.put(path, &node.path, stat),
                    None => Err(Error::Changed(path.to_owned())),
                }
            }
        }
    }

    fn put(&mut self, path: &Path, source: &Path, stat: &Stat) -> Result<(), Error> {
        let fail = |error| Error::io("read", path, error);
        let file_type = file_type(stat);
        let mut header = Header {
            name: path.as_os_str().as_bytes().to_vec(),
            kind: match file_type {
                FileType::RegularFile => kind::REGULAR,
                FileType::Directory => kind::DIRECTORY,
                FileType::Symlink => kind::SYMLINK,
                FileType::Fifo => kind::FIFO,
                FileType::CharacterDevice => kind::CHAR_DEVICE,
                FileType::BlockDevice => kind::BLOCK_DEVICE,
                FileType::Socket => return Ok(()),
                FileType::Unknown => return Err(Error::refused(path, "its type is not known")),
            },
            mode: i64::from(stat.st_mode & 0o7777),
            uid: stat.st_uid.into(),
            gid: stat.st_gid.into(),
            mtime: Some(Time::from_seconds(stat.st_mtime)),
            devmajor: major(stat.st_rdev).into(),
            devminor: minor(stat.st_rdev).into(),
            format: Format::PAX,
            ..Header::default()
        };
        match file_type {
            FileType::RegularFile => header.size = stat.st_size,
            FileType::Directory => header.name.push(b'/'),
            FileType::Symlink => {
                let target = rustix::fs::readlink(source, Vec::new()).map_err(|error| fail(error.into()))?;
                header.link = target.into_bytes();
            }
            _ => {}
        }
        let mut other_names = Vec::new();
        if stat.st_nlink > 1 && file_type != FileType::Directory {
            if let Some(first) = self.first_names.get(&stat.st_ino) {
                header.kind = kind::LINK;
                header.link.clone_from(first);
                header.size = 0;
            } else {
                self.first_names.insert(stat.st_ino, header.name.clone());
                other_names = self.unchanged_names.remove(&stat.st_ino).unwrap_or_default();
            }
        }
        if let Some(value) = capability(source).map_err(fail)? {
            header.records.insert([XATTR, CAPABILITY.as_bytes()].concat(), value);
        }
        self.entry(&header)?;
        if header.kind == kind::REGULAR && header.size > 0 {
            self.content(path, source, stat)?;
        }
        if !other_names.is_empty() {
            header.link = std::mem::take(&mut header.name);
            header.kind = kind::LINK;
            header.size = 0;
            for name in other_names {
                header.name = name;
                self.entry(&header)?;
            }
        }
        Ok(())
    }

    /// Writes a header after the directories above it that were not written yet.
    fn entry(&mut self, header: &Header) -> Result<(), Error> {
        let name = header.name.strip_suffix(b"/").unwrap_or(&header.name);
        let path = Path::new(OsStr::from_bytes(name));
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
            && !self.dirs.contains(parent)
        {
            self.parents(parent)?;
        }
        if header.kind == kind::DIRECTORY {
            self.dirs.insert(path.to_owned());
        }
        if !self.options.windows {
            return self.tar.entry(header);
        }
        let mut header = header.clone();
        windows::wrap(&mut header);
        self.tar.entry(&header)
    }

    /// Writes a directory and those above it, the outermost first.
    fn parents(&mut self, path: &Path) -> Result<(), Error> {
        let fail = |error| Error::io("read", path, error);
        let mut dir = self.upper.map(Stack::root).transpose().map_err(fail)?;
        let mut above = PathBuf::new();
        for name in path {
            above.push(name);
            let node = dir.map(|dir| dir.lookup(name)).transpose().map_err(fail)?.flatten();
            let node = node.ok_or_else(|| Error::Changed(above.clone()))?;
            if self.dirs.insert(above.clone()) {
                let stat = rustix::fs::lstat(&node.path).map_err(|error| fail(error.into()))?;
                self.put(&above, &node.path, &stat)?;
            }
            dir = node.dir;
        }
        Ok(())
    }

    fn content(&mut self, path: &Path, source: &Path, stat: &Stat) -> Result<(), Error> {
        let fail = |error| Error::io("read", path, error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(source, flags, Mode::empty()).map_err(|error| fail(error.into()))?;
        let mut file = File::from(file);
        let mut left = stat.st_size.unsigned_abs();
        loop {
            let count = file.read(&mut self.buffer).map_err(fail)?;
            left = left.checked_sub(count as u64).ok_or_else(|| Error::Changed(path.to_owned()))?;
            match count {
                0 if left == 0 => return Ok(()),
                0 => return Err(Error::Changed(path.to_owned())),
                _ => self.tar.content(&self.buffer[..count])?,
            }
            // Small files need no read to see their end.
            if left == 0 && count < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

fn capability(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    use rustix::io::Errno;
    // Its largest version has 24 bytes.
    let mut value = [0; 64];
    match rustix::fs::lgetxattr(path, CAPABILITY, &mut value[..]) {
        Ok(0) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Ok(length) => Ok(Some(value[..length].to_vec())),
        Err(error) => Err(error.into()),
    }
}
