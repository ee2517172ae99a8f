use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, Stat};

/// Names of the attribute that makes a directory opaque: nothing shows through from below.
pub const OPAQUE_XATTRS: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Whether an extended attribute is overlayfs's own, and means nothing outside its layer.
pub fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Whether a file is a whiteout: it hides what lower layers have under its name.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Layers of directories seen as one tree.
///
/// Symbolic links are never followed, so a link in a layer cannot lead out of the tree. The layers
/// must not change meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    layers: Vec<PathBuf>,
}

/// A directory of a [`Stack`]: the directories of the layers that show in it. Two are equal if they are the same
/// directories.
#[derive(Clone, Debug)]
pub struct Dir {
    /// Topmost first, never empty.
    layers: Vec<PathBuf>,
    /// The stack has one layer only, which is no overlay: nothing in it stands for something else.
    plain: bool,
}

impl PartialEq for Dir {
    fn eq(&self, other: &Self) -> bool {
        self.layers == other.layers
    }
}

impl Eq for Dir {}

/// A file of a [`Stack`].
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the file is: in the topmost layer that has it.
    pub path: PathBuf,
    /// Its content if it is a directory.
    pub dir: Option<Dir>,
}

impl Stack {
    /// A tree of layers in overlayfs's form, topmost first. One layer alone is shown as it is.
    ///
    /// # Errors
    /// When there is no layer.
    pub fn new(layers: Vec<PathBuf>) -> io::Result<Self> {
        if layers.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an overlay needs a layer"));
        }
        Ok(Self { layers })
    }

    /// The layers, topmost first.
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    /// The root directory.
    ///
    /// # Errors
    /// When attributes cannot be read.
    pub fn root(&self) -> io::Result<Dir> {
        Dir::visible(self.layers.clone(), self.layers.len() == 1)
    }

    /// The file at a path below the root, not following symbolic links in any place. `..` is refused.
    ///
    /// # Errors
    /// When layers cannot be read.
    pub fn lookup(&self, path: &Path) -> io::Result<Option<Node>> {
        let mut node =
            Node { path: self.layers.first().cloned().unwrap_or_default(), dir: Some(self.root()?) };
        for component in path.components() {
            let name = match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => name,
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "path leads upwards"));
                }
            };
            let Some(dir) = &node.dir else { return Ok(None) };
            match dir.lookup(name)? {
                Some(next) => node = next,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }
}

impl Dir {
    /// Cuts the list after the first opaque directory.
    fn visible(mut layers: Vec<PathBuf>, plain: bool) -> io::Result<Self> {
        let mut count = 1;
        while count < layers.len() && !is_opaque(&layers[count - 1])? {
            count += 1;
        }
        layers.truncate(count);
        Ok(Self { layers, plain })
    }

    /// The directories that show in this one, topmost first.
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    /// The file of this name in the directory.
    ///
    /// # Errors
    /// When layers cannot be read.
    pub fn lookup(&self, name: &OsStr) -> io::Result<Option<Node>> {
        self.lookup_from(0, name, None)
    }

    /// Looks the name up from layer `first` on, whose entry is of type `kind` if that is known.
    fn lookup_from(&self, first: usize, name: &OsStr, kind: Option<FileType>) -> io::Result<Option<Node>> {
        let mut dirs = Vec::new();
        for (number, layer) in self.layers.iter().enumerate().skip(first) {
            let path = layer.join(name);
            let kind = match kind.filter(|_| number == first) {
                // A device may be a whiteout.
                Some(kind) if kind != FileType::CharacterDevice => kind,
                _ => match lstat(&path)? {
                    None => continue,
                    Some(stat) if !self.plain && is_whiteout(&stat) => break,
                    Some(stat) => FileType::from_raw_mode(stat.st_mode),
                },
            };
            if kind != FileType::Directory {
                if dirs.is_empty() {
                    return Ok(Some(Node { path, dir: None }));
                }
                break;
            }
            let opaque = number + 1 < self.layers.len() && is_opaque(&path)?;
            dirs.push(path);
            if opaque {
                break;
            }
        }
        match dirs.first() {
            None => Ok(None),
            Some(path) => {
                Ok(Some(Node { path: path.clone(), dir: Some(Self { layers: dirs, plain: self.plain }) }))
            }
        }
    }

    /// All files in the directory by name.
    ///
    /// # Errors
    /// When layers cannot be read.
    pub fn entries(&self) -> io::Result<BTreeMap<OsString, Node>> {
        let mut found: BTreeMap<OsString, Option<Node>> = BTreeMap::new();
        for (number, layer) in self.layers.iter().enumerate() {
            read_names(layer, |name, kind| {
                if !found.contains_key(name) {
                    let node = self.lookup_from(number, name, kind)?;
                    found.insert(name.to_owned(), node);
                }
                Ok(())
            })?;
        }
        Ok(found.into_iter().filter_map(|(name, node)| Some((name, node?))).collect())
    }
}

fn read_names(
    dir: &Path,
    mut each: impl FnMut(&OsStr, Option<FileType>) -> io::Result<()>,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => None,
            kind => Some(kind),
        };
        each(OsStr::from_bytes(name), kind)?;
    }
    Ok(())
}

pub(crate) fn lstat(path: &Path) -> io::Result<Option<Stat>> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether nothing shows through a directory of a layer from below.
///
/// # Errors
/// When attributes cannot be read.
pub fn is_opaque(path: &Path) -> io::Result<bool> {
    for name in OPAQUE_XATTRS {
        let mut value = [0u8; 4];
        match rustix::fs::lgetxattr(path, name, &mut value) {
            Ok(len) => return Ok(value.get(..len) == Some(b"y")),
            Err(
                rustix::io::Errno::NODATA
                | rustix::io::Errno::OPNOTSUPP
                | rustix::io::Errno::RANGE
                | rustix::io::Errno::PERM,
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{XattrFlags, makedev, mknodat};

    use super::*;

    struct Layers(tempfile::TempDir);

    impl Layers {
        fn file(&self, path: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, b"").expect("write");
        }

        /// Needs root.
        fn whiteout(&self, path: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).expect("mknod");
        }

        fn stack(&self, layers: &[&str]) -> Stack {
            Stack::new(layers.iter().map(|layer| self.0.path().join(layer)).collect()).expect("stack")
        }

        /// Where the file at a path is, below the directory of layers.
        fn find(&self, stack: &Stack, path: &str) -> Option<String> {
            let node = stack.lookup(Path::new(path)).expect("lookup")?;
            Some(node.path.strip_prefix(self.0.path()).expect("below").display().to_string())
        }
    }

    #[test]
    fn layers_are_seen_as_one_tree() {
        let layers = Layers(tempfile::tempdir().expect("temp dir"));
        for path in
            ["1/a", "1/b", "1/dir/x", "1/opaque/x", "1/gone/x", "1/swapped/x", "2/b", "2/dir/y", "2/swapped"]
        {
            layers.file(path);
        }
        layers.file("2/opaque/y");
        let opaque = layers.0.path().join("2/opaque");
        rustix::fs::lsetxattr(&opaque, OPAQUE_XATTRS[0], b"y", XattrFlags::empty()).expect("setxattr");
        layers.whiteout("2/gone");
        std::fs::create_dir(layers.0.path().join("3")).expect("mkdir");
        layers.file("3/swapped/z");
        let stack = layers.stack(&["3", "2", "1"]);
        let cases = [
            ("a", Some("1/a")),
            ("/b", Some("2/b")),
            ("dir", Some("2/dir")),
            ("dir/x", Some("1/dir/x")),
            ("dir/y", Some("2/dir/y")),
            ("dir/x/below a file", None),
            ("opaque/x", None),
            ("opaque/y", Some("2/opaque/y")),
            ("gone", None),
            ("gone/x", None),
            ("swapped/z", Some("3/swapped/z")),
            ("swapped/x", None),
            ("none", None),
        ];
        for (path, expect) in cases {
            assert_eq!(layers.find(&stack, path).as_deref(), expect, "{path}");
        }
        assert!(stack.lookup(Path::new("a/../b")).is_err());
        let names: Vec<_> = stack.root().expect("root").entries().expect("entries").into_keys().collect();
        assert_eq!(names, ["a", "b", "dir", "opaque", "swapped"]);
        assert!(Stack::new(Vec::new()).is_err());
    }

    #[test]
    fn links_lead_nowhere() {
        let layers = Layers(tempfile::tempdir().expect("temp dir"));
        layers.file("1/etc/passwd");
        std::fs::create_dir(layers.0.path().join("2")).expect("mkdir");
        std::os::unix::fs::symlink("/etc", layers.0.path().join("2/etc")).expect("symlink");
        let stack = layers.stack(&["2", "1"]);
        assert_eq!(layers.find(&stack, "etc").as_deref(), Some("2/etc"));
        assert_eq!(layers.find(&stack, "etc/passwd"), None);
    }

    #[test]
    fn whiteouts_mean_nothing_in_a_single_layer() {
        let layers = Layers(tempfile::tempdir().expect("temp dir"));
        layers.whiteout("1/device");
        assert_eq!(layers.find(&layers.stack(&["1"]), "device").as_deref(), Some("1/device"));
        // But in a directory that only one of several layers has.
        layers.whiteout("1/dir/gone");
        std::fs::create_dir(layers.0.path().join("2")).expect("mkdir");
        let stack = layers.stack(&["2", "1"]);
        assert_eq!(layers.find(&stack, "dir/gone"), None);
        let dir =
            stack.lookup(Path::new("dir")).expect("lookup").and_then(|node| node.dir).expect("directory");
        assert!(dir.entries().expect("entries").is_empty());
    }
}
