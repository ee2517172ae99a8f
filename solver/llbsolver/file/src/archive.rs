use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use buildkit_util_compression::{Detected, decoder, detect};
use buildkit_util_fsutil_copy::make_dirs;
use buildkit_util_system::{CreateFile, FileKind, Root, Timestamp};
use tar::{Archive, EntryType};

use crate::actions::chown_fn;
use crate::{Error, Owner, Result};

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
    let is_tar = reader(&mut file, compression).is_ok_and(|file| {
        matches!(Archive::new(file).entries().map(|mut entries| entries.next()), Ok(Some(Ok(_))))
    });
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
/// When the archive is damaged, names a path outside, or the system refuses. What was unpacked until
/// then stays.
pub fn unpack(
    archive: impl Read + Send,
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
    let damaged = |error: io::Error| Error::Invalid(format!("Failed to read archive: {error}"));
    let mut archive = Archive::new(reader(archive, compression).map_err(damaged)?);
    for entry in archive.entries().map_err(damaged)? {
        unpacker.entry(&mut entry.map_err(damaged)?)?;
    }
    unpacker.finish()
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
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let damaged = |error: io::Error| Error::Invalid(format!("Failed to read archive: {error}"));
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = inside(&entry.path_bytes())?;
        let is_root = path == Path::new("/");
        if is_root && kind != EntryType::Directory {
            return Ok(());
        }
        let header = entry.header();
        let mode = header.mode().map_err(damaged)? & 0o7777;
        let seconds = header.mtime().map_err(damaged)?;
        let time = Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanoseconds: 0 };
        let id = |id: u64| u32::try_from(id).unwrap_or(u32::MAX - 1);
        let owner = match self.owner {
            Some(owner) => owner,
            None => {
                Owner { uid: id(header.uid().map_err(damaged)?), gid: id(header.gid().map_err(damaged)?) }
            }
        };
        let device = (
            header.device_major().ok().flatten().unwrap_or(0),
            header.device_minor().ok().flatten().unwrap_or(0),
        );
        if !is_root {
            self.make_room(&path, kind)?;
        }
        match kind {
            EntryType::Directory if is_root => {}
            EntryType::Directory => match self.root.mkdir(&path, 0o755, None) {
                Err(error) if error.io_kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(Error::at("mkdir", &path))?,
            },
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = self
                    .root
                    .create_file(&path, 0o600, CreateFile::Replace)
                    .map_err(Error::at("open", &path))?;
                io::copy(entry, &mut file).map_err(Error::io("write", &path))?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                self.root.symlink(OsStr::from_bytes(&target), &path).map_err(Error::at("symlink", &path))?;
            }
            EntryType::Link => {
                let target = inside(&entry.link_name_bytes().unwrap_or_default())?;
                // Attributes are those of the file that it is another name of.
                return self.root.hard_link(&target, &path).map_err(Error::at("link", &path));
            }
            EntryType::Fifo => self.node(&path, FileKind::Fifo, mode, (0, 0))?,
            EntryType::Char => self.node(&path, FileKind::CharDevice, mode, device)?,
            EntryType::Block => self.node(&path, FileKind::BlockDevice, mode, device)?,
            other => {
                return Err(Error::Invalid(format!("unhandled tar header type {}", other.as_byte())));
            }
        }
        let handle = self.root.resolve_no_follow(&path).map_err(Error::at("lstat", &path))?;
        handle.chown(owner.uid, owner.gid).map_err(Error::at("lchown", &path))?;
        if let Ok(Some(extensions)) = entry.pax_extensions() {
            for extension in extensions.flatten() {
                let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
                    continue;
                };
                // Not all file systems take all of them; what steers an overlay is never taken.
                if !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.") {
                    let _ = handle.set_xattr(OsStr::from_bytes(name), extension.value_bytes());
                }
            }
        }
        // After the owner: changing that takes set-id bits away.
        if kind != EntryType::Symlink {
            handle.chmod(mode).map_err(Error::at("chmod", &path))?;
        }
        if kind == EntryType::Directory {
            self.directories.insert(path, time);
        } else {
            handle.set_times(Some(time), Some(time)).map_err(Error::at("utimes", &path))?;
        }
        Ok(())
    }

    /// Makes the directories above a path and removes what is in its way.
    fn make_room(&mut self, path: &Path, kind: EntryType) -> Result<()> {
        let above = path.parent().unwrap_or(Path::new("/"));
        match self.root.stat(above) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                self.root.mkdir_all(above, 0o755, Some((0, 0))).map_err(Error::at("mkdir", above))?;
            }
            Err(error) => return Err(Error::at("stat", above)(error)),
        }
        match self.root.lstat(path) {
            Ok(stat) if stat.is_dir() && kind == EntryType::Directory => Ok(()),
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
