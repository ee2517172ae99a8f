use std::io::Read;

use buildkit_util_fsutil_types::Stat;

use crate::{Error, mode};

/// A tree that can be walked and read. Calls block.
pub trait FileSystem: Send + Sync {
    /// Walks `target` (empty for the whole tree) and everything below it. The root itself is not an
    /// entry; any other target is, as the first one.
    ///
    /// # Errors
    /// When the walk cannot start. A target that does not exist is a walk without entries.
    fn walk(&self, target: &str) -> Result<Box<dyn Walk + '_>, Error>;

    /// Opens a regular file that a walk has shown.
    ///
    /// # Errors
    /// When it is not there (any more), or not a regular file.
    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error>;
}

/// What a walk knows of an entry without looking at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path from the root of the tree, without a leading slash.
    pub path: String,
    /// Type bits of the mode, see [`mode::TYPE`].
    pub kind: u32,
}

impl Entry {
    /// Whether the entry is a directory.
    pub fn is_dir(&self) -> bool {
        mode::is_dir(self.kind)
    }
}

/// A walk in the order of the protocol: by name, component by component, directories before what is
/// in them.
pub trait Walk: Send {
    /// The next entry, `None` at the end. After an error the walk can go on with the next entry.
    ///
    /// # Errors
    /// When a directory cannot be read.
    fn next(&mut self) -> Result<Option<Entry>, Error>;

    /// The attributes of the entry that [`next`](Self::next) gave last. Call it at most once for one
    /// entry: it may hand out what it has.
    ///
    /// # Errors
    /// When the entry cannot be looked at; [`Error::is_not_found`] when it is gone.
    fn stat(&mut self) -> Result<Stat, Error>;

    /// If the entry that [`next`](Self::next) gave last is a directory, leaves out what is in it.
    fn skip_dir(&mut self);
}

/// Calls `visit` for every entry of a tree. Entries that vanish meanwhile are left out.
///
/// # Errors
/// As the walk and `visit`.
pub fn walk_all(fs: &dyn FileSystem, mut visit: impl FnMut(Stat) -> Result<(), Error>) -> Result<(), Error> {
    let mut walk = fs.walk("")?;
    loop {
        match walk.next() {
            Ok(Some(_)) => match walk.stat() {
                Ok(stat) => visit(stat)?,
                Err(error) if error.is_not_found() => walk.skip_dir(),
                Err(error) => return Err(error),
            },
            Ok(None) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
}
