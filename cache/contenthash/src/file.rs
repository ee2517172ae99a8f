use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use buildkit_util_cachedigest::Digest;
use buildkit_util_fsutil_types::Stat;
use buildkit_util_system::{FileKind, FileStat, Root};
use buildkit_util_tarsum::{Header, is_hashed_xattr};
use sha2::{Digest as _, Sha256};

use crate::record::Hash;
use crate::{Error, Result};

/// Digest of one file while its content arrives.
pub struct FileHash(Sha256);

impl FileHash {
    /// Starts with the attributes as a sender gave them (mode as in Go's `os.FileMode`). A hard link
    /// hashes as the file that it is.
    ///
    /// # Errors
    /// When the mode has no known type.
    pub fn new(stat: &Stat) -> Result<Self> {
        let header = Header::from_go_mode(
            stat.mode,
            (stat.uid, stat.gid),
            stat.size,
            stat.linkname.as_bytes(),
            (stat.devmajor, stat.devminor),
        )
        .map_err(|_| Error::Mode { path: stat.path.clone(), mode: stat.mode })?;
        let xattrs = stat.xattrs.iter().map(|(name, value)| (name.as_bytes(), &value[..]));
        Ok(Self(begin(&header, xattrs)))
    }

    /// Adds content.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of attributes and content.
    pub fn finish(self) -> Digest {
        Digest::from_sha256(self.0.finalize().into())
    }
}

fn begin<'a>(header: &Header<'_>, xattrs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Sha256 {
    let mut hash = Sha256::new();
    header.write_v1(xattrs, |bytes| hash.update(bytes));
    hash
}

/// The digest of a file of a tree. Only regular files are opened.
///
/// # Errors
/// When it cannot be looked at or read.
pub fn hash_file(root: &Root, path: &Path) -> Result<Digest> {
    let mut buffer = vec![0; BUFFER];
    hash_with(root, path, &mut buffer).map(Digest::from_sha256)
}

/// Bytes that are read at a time.
pub(crate) const BUFFER: usize = 64 << 10;

pub(crate) fn hash_with(root: &Root, path: &Path, buffer: &mut [u8]) -> Result<Hash> {
    let fail = |action| move |cause| Error::Io { action, path: path.to_owned(), cause };
    let handle = root.resolve_no_follow(path).map_err(fail("lstat"))?;
    let stat = handle.stat().map_err(fail("lstat"))?;
    let target = match stat.kind {
        FileKind::Symlink => handle.readlink().map_err(fail("readlink"))?,
        _ => Default::default(),
    };
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for name in handle.list_xattrs().map_err(fail("listxattr"))? {
        if !is_hashed_xattr(name.as_bytes()) {
            continue;
        }
        // Some attributes are listed but may not be read.
        if let Ok(Some(value)) = handle.get_xattr(&name) {
            xattrs.push((name.as_bytes().to_vec(), value));
        }
    }
    let header = header_of(&stat, target.as_bytes())
        .ok_or_else(|| Error::Mode { path: path.display().to_string(), mode: stat.mode })?;
    let pairs = xattrs.iter().map(|(name, value)| (&name[..], &value[..]));
    let mut hash = begin(&header, pairs);
    if stat.kind == FileKind::Regular && stat.size > 0 {
        let mut file = handle.open_file().map_err(fail("open"))?;
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(count) => hash.update(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(fail("read")(buildkit_util_system::Error::io("read", path, error)));
                }
            }
        }
    }
    Ok(hash.finalize().into())
}

fn header_of<'a>(stat: &FileStat, target: &'a [u8]) -> Option<Header<'a>> {
    let typeflag = match stat.kind {
        // A socket counts as a file, as it does when a client sends it.
        FileKind::Regular | FileKind::Socket => b'0',
        FileKind::Symlink => b'2',
        FileKind::CharDevice => b'3',
        FileKind::BlockDevice => b'4',
        FileKind::Directory => b'5',
        FileKind::Fifo => b'6',
        FileKind::Unknown => return None,
    };
    let is_link = stat.kind == FileKind::Symlink;
    Some(Header {
        mode: if is_link { stat.permissions() | 0o777 } else { stat.permissions() }.into(),
        uid: stat.uid.into(),
        gid: stat.gid.into(),
        size: if typeflag == b'0' { i64::try_from(stat.size).ok()? } else { 0 },
        typeflag,
        linkname: target,
        // Existing keys have no device numbers for files that are found in a tree, only for files
        // that were sent.
        devmajor: 0,
        devminor: 0,
        ..Header::default()
    })
}
