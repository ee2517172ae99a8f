//! What a layer says is gone.

use std::path::Path;

use buildkit_util_overlay::{OPAQUE_XATTRS, Stack};
use buildkit_util_system::{Handle, Root};
use rustix::fs::{FileType, makedev, mknodat};
use rustix::io::Errno;

use crate::Error;
use crate::apply::{Applier, Place, Whiteouts};
use crate::parents::fail;
use crate::place::{self, Failure};

/// Directories at most within each other in an opaque one: each is open meanwhile.
const MAX_DEPTH: usize = 256;

impl Applier<'_> {
    pub(crate) fn hide(&mut self, place: &Place) -> Result<(), Error> {
        self.remove(place)?;
        if self.is_overlay() {
            let Place { path, parent, name } = place;
            match place::node(parent, name, path, FileType::CharacterDevice, makedev(0, 0)) {
                Err(Failure::Exists) => return Err(Error::io("hide", path, Errno::EXIST)),
                Err(Failure::Other(error)) => return Err(error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn make_opaque(&mut self, place: &Place) -> Result<(), Error> {
        let Place { path, parent, .. } = place;
        let dir = path.parent().unwrap_or(Path::new(""));
        if self.is_overlay() {
            self.root_is_opaque |= dir.as_os_str().is_empty();
            let handle = parent.root.resolve("").map_err(|error| fail("open", dir, error))?;
            return self.set_opaque(&handle, dir);
        }
        self.parents.forget();
        self.keep_written(&parent.root, parent.inode, dir, 0).map(drop)
    }

    /// Removes what this layer has not put into a directory, and tells whether it has put something there.
    fn keep_written(&self, dir: &Root, inode: u64, path: &Path, depth: usize) -> Result<bool, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::refused(path, "an opaque directory is too deep"));
        }
        let mut kept = false;
        for entry in dir.read_dir("").map_err(|error| fail("read", path, error))? {
            let stat = dir.lstat(&entry.name).map_err(|error| fail("read", path, error))?;
            let mut keep = self.written.contains(&self.hash(inode, &entry.name));
            if stat.is_dir() {
                let below = dir.sub_root(&entry.name).map_err(|error| fail("open", path, error))?;
                keep |= self.keep_written(&below, stat.ino, &path.join(&entry.name), depth + 1)?;
            }
            if !keep {
                dir.remove_all(&entry.name).map_err(|error| fail("remove", path, error))?;
            }
            kept |= keep;
        }
        Ok(kept)
    }

    pub(crate) fn set_opaque(&self, handle: &Handle, path: &Path) -> Result<(), Error> {
        let userxattr = self.options.whiteouts == Whiteouts::Overlay { userxattr: true };
        handle
            .set_xattr(OPAQUE_XATTRS[usize::from(userxattr)], b"y")
            .map_err(|error| fail("make opaque", path, error))
    }

    /// Hides all that the layers below have in the root and this one has not. The kernel does not ask whether a
    /// root is opaque.
    pub(crate) fn hide_root(&self, lower: &Stack) -> Result<(), Error> {
        let io = |error| Error::io("hide", "/", error);
        let root = self.parents.root();
        for (name, node) in lower.root().and_then(|root| root.entries()).map_err(io)? {
            match root.lstat(&name) {
                Ok(stat) if stat.is_dir() && node.dir.is_some() => {
                    let path = Path::new(&name);
                    let handle = root.resolve_no_follow(path).map_err(|error| fail("open", path, error))?;
                    self.set_opaque(&handle, path)?;
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    let device = makedev(0, 0);
                    mknodat(root, &name, FileType::CharacterDevice, rustix::fs::Mode::empty(), device)
                        .map_err(|error| io(error.into()))?;
                }
                Err(error) => return Err(fail("hide", Path::new(&name), error)),
            }
        }
        Ok(())
    }
}
