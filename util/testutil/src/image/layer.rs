use std::io::Write as _;
use std::path::Path;

use buildkit_util_cachedigest::Digest;
use tar::{EntryType, Header};

/// One layer of an image: a tar stream, the same bytes whenever it is made the same way.
///
/// Entries are owned by root and as old as the epoch; directories above them are made by whoever unpacks.
/// ```
/// use buildkit_util_testutil::Layer;
///
/// let layer = Layer::new().dir("etc", 0o755).file("etc/motd", 0o644, "hello\n").symlink("motd", "etc/motd");
/// assert_eq!(layer.diff_id(), layer.clone().diff_id());
/// ```
#[derive(Clone, Debug)]
pub struct Layer {
    /// Entries; the end of the archive is added when the layer is used.
    tar: Vec<u8>,
    is_compressed: bool,
}

impl Layer {
    /// An empty layer that is compressed with gzip in the image.
    pub fn new() -> Self {
        Self { tar: Vec::new(), is_compressed: true }
    }

    /// The tree at `dir`, in the order of names: directories, files and symbolic links with their modes.
    ///
    /// # Panics
    /// When it cannot be read, or holds anything else.
    pub fn from_dir(dir: &Path) -> Self {
        let mut layer = Self::new();
        layer.add_tree(dir, Path::new(""));
        layer
    }

    /// Keeps the layer as a plain tar stream in the image.
    pub fn uncompressed(mut self) -> Self {
        self.is_compressed = false;
        self
    }

    /// Adds a directory.
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(path, EntryType::Directory, mode, &[], "")
    }

    /// Adds a file.
    pub fn file(self, path: &str, mode: u32, data: impl AsRef<[u8]>) -> Self {
        self.entry(path, EntryType::Regular, mode, data.as_ref(), "")
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, 0o777, &[], target)
    }

    /// Adds a hard link to an entry of this layer.
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Link, 0o644, &[], target)
    }

    /// Adds a named pipe.
    pub fn fifo(self, path: &str) -> Self {
        self.entry(path, EntryType::Fifo, 0o644, &[], "")
    }

    /// Adds a character device.
    ///
    /// # Panics
    /// When the path is too long for a simple header.
    pub fn device(self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(EntryType::Char, 0o644, 0);
        let numbers = header.set_device_major(major).and_then(|()| header.set_device_minor(minor));
        numbers.expect("the format has devices");
        self.plain(path, header, &[])
    }

    /// Adds a file of `size` bytes that begins with `data`; the rest is a hole that the layer does not have.
    ///
    /// # Panics
    /// When the path is too long for a simple header, or the size for its numbers.
    pub fn sparse(self, path: &str, data: &[u8], size: u64) -> Self {
        let mut header = Self::header(EntryType::GNUSparse, 0o644, data.len());
        let gnu = header.as_gnu_mut().expect("headers are GNU's");
        let octal = |field: &mut [u8; 12], number: u64| {
            let digits = format!("{number:012o}");
            field.copy_from_slice(digits.as_bytes());
        };
        octal(&mut gnu.sparse[0].offset, 0);
        octal(&mut gnu.sparse[0].numbytes, data.len() as u64);
        octal(&mut gnu.sparse[1].offset, size);
        octal(&mut gnu.sparse[1].numbytes, 0);
        octal(&mut gnu.realsize, size);
        self.plain(path, header, data)
    }

    /// Adds the mark that `path` of the layers below is gone.
    pub fn whiteout(self, path: &str) -> Self {
        let (dir, name) = path.rsplit_once('/').map_or(("", path), |(dir, name)| (dir, name));
        let separator = if dir.is_empty() { "" } else { "/" };
        self.file(&format!("{dir}{separator}.wh.{name}"), 0o644, "")
    }

    /// Adds the mark that nothing that the layers below have in the directory `path` is seen.
    pub fn opaque(self, path: &str) -> Self {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, "")
    }

    /// The digest of the uncompressed stream.
    pub fn diff_id(&self) -> Digest {
        Digest::sha256(self.tar())
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// The bytes that are in the image.
    pub(super) fn blob(&self) -> Vec<u8> {
        if !self.is_compressed {
            return self.tar();
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.tar()).and_then(|()| encoder.finish()).expect("memory takes everything")
    }

    /// The uncompressed stream: entries and two empty blocks.
    fn tar(&self) -> Vec<u8> {
        [&self.tar[..], &[0; 1024]].concat()
    }

    fn add_tree(&mut self, root: &Path, below: &Path) {
        let entries =
            fs_err::read_dir(root.join(below)).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut names: Vec<_> =
            entries.expect("entries of a directory").iter().map(fs_err::DirEntry::file_name).collect();
        names.sort();
        for name in names {
            let path = below.join(name);
            let from = root.join(&path);
            let metadata = fs_err::symlink_metadata(&from).expect("metadata of an entry");
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
            let to = path.to_str().expect("names of base images are text");
            let kind = metadata.file_type();
            let layer = std::mem::take(self);
            *self = if kind.is_dir() {
                layer.dir(to, mode)
            } else if kind.is_symlink() {
                let target = fs_err::read_link(&from).expect("target of a link");
                layer.symlink(to, target.to_str().expect("targets in base images are text"))
            } else {
                assert!(kind.is_file(), "{} is no file", from.display());
                layer.file(to, mode, fs_err::read(&from).expect("a file"))
            };
            if kind.is_dir() {
                self.add_tree(root, &path);
            }
        }
    }

    fn header(kind: EntryType, mode: u32, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size as u64);
        header
    }

    /// Adds a header that is complete but for its path and sum.
    fn plain(mut self, path: &str, mut header: Header, data: &[u8]) -> Self {
        header.set_path(path).unwrap_or_else(|error| panic!("`{path}` is no simple path: {error}"));
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        self.tar.extend_from_slice(data);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    fn entry(mut self, path: &str, kind: EntryType, mode: u32, data: &[u8], target: &str) -> Self {
        let mut builder = tar::Builder::new(std::mem::take(&mut self.tar));
        let mut header = Self::header(kind, mode, data.len());
        let added = if target.is_empty() {
            builder.append_data(&mut header, path, data)
        } else {
            builder.append_link(&mut header, path, target)
        };
        added.unwrap_or_else(|error| panic!("`{path}` is no entry of a layer: {error}"));
        let mut tar = builder.into_inner().expect("memory takes everything");
        // More entries come after this one: the end is not here.
        tar.truncate(tar.len() - 1024);
        self.tar = tar;
        self
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}
