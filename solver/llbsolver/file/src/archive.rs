use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use buildkit_util_archive::{self as archive, Chunk, Header, Reader, kind};
use buildkit_util_compression::{Detected, decoder, detect};
use buildkit_util_fsutil_copy::make_dirs;
use buildkit_util_system::{CreateFile, FileKind, Root, Timestamp};

use crate::actions::chown_fn;
use crate::{Error, Owner, Result};

/// Type of a file that some systems would lay out in one piece.
const CONTIGUOUS: u8 = b'7';

/// Bytes at the start of a file that tell what it is.
const MAGIC: usize = 6;

/// Whether a file is a tar archive. Everything but regular files is not, and not opened.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn sniff(root: &Root, path: &Path) -> Result<Option<(File, Detected)>> {
    let Ok(handle) = root.resolve(path) else { return Ok(None) };
    if !handle.stat().is_ok_and(|stat| stat.is_file()) {
        return Ok(None);
    }
    let mut file = handle.open_file().map_err(Error::at("open", path))?;
    let mut magic = [0; MAGIC];
    let count = read_up_to(&mut file, &mut magic).map_err(Error::io("read", path))?;
    let rewind = |mut file: File| file.rewind().map(|()| file).map_err(Error::io("seek", path));
    let mut file = rewind(file)?;
    let compression = detect(&magic[..count]);
    let is_tar =
        reader(&mut file, compression).is_ok_and(|file| matches!(Reader::new(file).entry(), Ok(Some(_))));
    Ok(if is_tar { Some((rewind(file)?, compression)) } else { None })
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

fn reader<'a>(file: impl Read + Send + 'a, compression: Detected) -> io::Result<Box<dyn Read + Send + 'a>> {
    decoder(compression, BufReader::with_capacity(64 << 10, file))
}

/// Unpacks a tar archive into a directory, which is made if it is missing. Nothing gets out of it,
/// whatever links the archive or the tree holds. Entries replace what is there; directories merge.
/// `owner` takes the place of the owners in the archive.
///
/// # Errors
/// When the archive is damaged, names a path outside, has an owner that is none, or the system refuses. What
/// was unpacked until then stays.
pub fn unpack(
    input: impl Read + Send,
    compression: Detected,
    root: &Root,
    dest: &Path,
    owner: Option<Owner>,
    time: Option<Timestamp>,
) -> Result<()> {
    let dest = root.real_path(dest).map_err(Error::at("lstat", dest))?;
    make_dirs(root, &dest, 0o755, chown_fn(owner).as_ref(), time)?;
    let inside = root.sub_root(&dest).map_err(Error::at("open", &dest))?;
    let mut unpacker = Unpacker { root: inside, owner, directories: BTreeMap::new() };
    let decoded = reader(input, compression).map_err(|error| damaged(archive::Error::Read(error)))?;
    let mut entries = Reader::new(decoded);
    while let Some(header) = entries.entry().map_err(damaged)? {
        unpacker.entry(&header, &mut entries)?;
    }
    unpacker.finish()
}

fn damaged(error: archive::Error) -> Error {
    Error::Invalid(match error {
        archive::Error::Malformed { reason, after } => {
            format!("Failed to read archive after entry `{}`: {reason}", after.display())
        }
        archive::Error::Read(error) => format!("Failed to read archive: {error}"),
        other => format!("Failed to read archive: {other}"),
    })
}

/// The owner that an archive says a file has.
fn owner_of(header: &Header, path: &Path) -> Result<Owner> {
    // The last number means "unchanged" to the kernel.
    let id = |id: i64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    match (id(header.uid), id(header.gid)) {
        (Some(uid), Some(gid)) => Ok(Owner { uid, gid }),
        _ => Err(Error::Invalid(format!("owner of {path:?} in the archive is out of bounds"))),
    }
}

/// The time that an archive says a file has; those that file systems may not take are 1970.
fn time_of(header: &Header) -> Timestamp {
    match header.mtime {
        Some(time) if time.seconds >= 0 => Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds },
        _ => Timestamp::default(),
    }
}

/// Writes the content of the current entry, with its holes.
fn write_content(content: &mut Reader<impl Read>, file: &mut File, path: &Path) -> Result<()> {
    let mut size = 0u64;
    while let Some(chunk) = content.chunk().map_err(damaged)? {
        match chunk {
            Chunk::Data(bytes) => {
                file.write_all(bytes).map_err(Error::io("write", path))?;
                size += bytes.len() as u64;
            }
            Chunk::Hole(count) => {
                size = size.saturating_add(count);
                file.seek(SeekFrom::Start(size)).map_err(Error::io("seek", path))?;
            }
        }
    }
    file.set_len(size).map_err(Error::io("truncate", path))
}

struct Unpacker {
    root: Root,
    owner: Option<Owner>,
    /// Times of directories, set when nothing is put into them any more.
    directories: BTreeMap<PathBuf, Timestamp>,
}

/// A path of an archive as one of the tree. `..` that would lead out is refused.
fn inside(path: &[u8]) -> Result<PathBuf> {
    let mut clean = PathBuf::from("/");
    let mut depth = 0usize;
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => {
                clean.push(name);
                depth += 1;
            }
            Component::ParentDir if depth > 0 => {
                clean.pop();
                depth -= 1;
            }
            Component::ParentDir => {
                let path = String::from_utf8_lossy(path);
                return Err(Error::Invalid(format!("{path:?} is outside of \"/\"")));
            }
            _ => {}
        }
    }
    Ok(clean)
}

impl Unpacker {
    fn entry(&mut self, header: &Header, content: &mut Reader<impl Read>) -> Result<()> {
        if header.kind == kind::PAX_GLOBAL {
            return Ok(());
        }
        let path = inside(&header.name)?;
        let is_root = path == Path::new("/");
        if is_root && header.kind != kind::DIRECTORY {
            return Ok(());
        }
        let owner = match self.owner {
            Some(owner) => owner,
            None => owner_of(header, &path)?,
        };
        if !is_root {
            self.make_room(&path, header.kind)?;
        }
        let mode = (header.mode & 0o7777) as u32;
        let number = |number: i64| u32::try_from(number).unwrap_or(0);
        let device = (number(header.devmajor), number(header.devminor));
        match header.kind {
            kind::DIRECTORY if is_root => {}
            kind::DIRECTORY => match self.root.mkdir(&path, 0o755, None) {
                Err(error) if error.io_kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(Error::at("mkdir", &path))?,
            },
            kind::REGULAR | CONTIGUOUS | kind::GNU_SPARSE => {
                let mut file = self
                    .root
                    .create_file(&path, 0o600, CreateFile::Replace)
                    .map_err(Error::at("open", &path))?;
                write_content(content, &mut file, &path)?;
            }
            kind::SYMLINK => {
                let target = OsStr::from_bytes(&header.link);
                self.root.symlink(target, &path).map_err(Error::at("symlink", &path))?;
            }
            kind::LINK => {
                let target = inside(&header.link)?;
                // Attributes are those of the file that it is another name of.
                return self.root.hard_link(&target, &path).map_err(Error::at("link", &path));
            }
            kind::FIFO => self.node(&path, FileKind::Fifo, mode, (0, 0))?,
            kind::CHAR_DEVICE => self.node(&path, FileKind::CharDevice, mode, device)?,
            kind::BLOCK_DEVICE => self.node(&path, FileKind::BlockDevice, mode, device)?,
            other => return Err(Error::Invalid(format!("unhandled tar header type {other}"))),
        }
        let handle = self.root.resolve_no_follow(&path).map_err(Error::at("lstat", &path))?;
        handle.chown(owner.uid, owner.gid).map_err(Error::at("lchown", &path))?;
        for (key, value) in &header.records {
            let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { continue };
            // Not all file systems take all of them; what steers an overlay is never taken.
            if !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.") {
                let _ = handle.set_xattr(OsStr::from_bytes(name), value);
            }
        }
        // After the owner: changing that takes set-id bits away.
        if header.kind != kind::SYMLINK {
            handle.chmod(mode).map_err(Error::at("chmod", &path))?;
        }
        let time = time_of(header);
        if header.kind == kind::DIRECTORY {
            self.directories.insert(path, time);
        } else {
            handle.set_times(Some(time), Some(time)).map_err(Error::at("utimes", &path))?;
        }
        Ok(())
    }

    /// Makes the directories above a path and removes what is in its way.
    fn make_room(&mut self, path: &Path, entry_kind: u8) -> Result<()> {
        let above = path.parent().unwrap_or(Path::new("/"));
        match self.root.stat(above) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                self.root.mkdir_all(above, 0o755, Some((0, 0))).map_err(Error::at("mkdir", above))?;
            }
            Err(error) => return Err(Error::at("stat", above)(error)),
        }
        match self.root.lstat(path) {
            Ok(stat) if stat.is_dir() && entry_kind == kind::DIRECTORY => Ok(()),
            Ok(_) => {
                self.directories.retain(|known, _| !known.starts_with(path));
                self.root.remove_all(path).map_err(Error::at("unlinkat", path))
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(Error::at("lstat", path)(error)),
        }
    }

    fn node(&self, path: &Path, kind: FileKind, mode: u32, device: (u32, u32)) -> Result<()> {
        self.root.mknod(path, kind, mode, device).map_err(Error::at("mknod", path))
    }

    fn finish(self) -> Result<()> {
        for (path, time) in self.directories.iter().rev() {
            // It may have been replaced through a link by a later entry.
            let Ok(handle) = self.root.resolve_no_follow(path) else { continue };
            handle.set_times(Some(*time), Some(*time)).map_err(Error::at("utimes", path))?;
        }
        Ok(())
    }
}
