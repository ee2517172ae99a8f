use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use buildkit_snapshot::{Mount, MountGuard, SnapshotName};

use crate::manager::Inner;
use crate::{Error, RefId, RefMetadata};

/// Holds a record; dropping it lets go. What that costs is done in the background.
pub(crate) struct Handle {
    pub(crate) inner: Arc<Inner>,
    pub(crate) id: RefId,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.release(&self.id);
    }
}

/// A tree that does not change. Cheap to clone; the record is released with the last clone.
#[derive(Clone)]
pub struct ImmutableRef {
    pub(crate) handle: Arc<Handle>,
}

/// A tree that its only holder can change. Dropping it discards the changes, unless the record was
/// made to be retained.
pub struct MutableRef {
    pub(crate) handle: Handle,
}

/// How to mount a tree. Keeps the record as long as it lives.
#[derive(Clone)]
pub struct Mounted {
    mount: Mount,
    /// Keeps the record of an immutable ref.
    _handle: Option<Arc<Handle>>,
}

/// A tree that is visible in a directory of this process. Dropping it unmounts.
pub struct LocalMount {
    // Unmounted before the record is released.
    guard: MountGuard,
    _handle: Option<Arc<Handle>>,
}

impl Mounted {
    /// The mount.
    pub fn mount(&self) -> &Mount {
        &self.mount
    }
}

impl Deref for Mounted {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.mount
    }
}

impl LocalMount {
    /// Where the tree is.
    pub fn path(&self) -> &Path {
        self.guard.path()
    }

    /// Whether something was mounted. Otherwise the path is the directory that the tree is kept in, and
    /// files can be linked from and to others like it.
    pub fn is_mounted(&self) -> bool {
        self.guard.is_mounted()
    }
}

impl ImmutableRef {
    /// The record.
    pub fn id(&self) -> &RefId {
        &self.handle.id
    }

    /// Bytes on disk, without parents.
    ///
    /// # Errors
    /// When the record is gone.
    pub async fn size(&self) -> Result<u64, Error> {
        self.handle.inner.size(&self.handle.id).await
    }

    /// How to mount the tree, read-only. Makes its files first, if they are nowhere yet.
    ///
    /// # Errors
    /// When they cannot be made.
    pub async fn mount(&self) -> Result<Mounted, Error> {
        let mount = self.handle.inner.view(&self.handle).await?;
        Ok(Mounted { mount, _handle: Some(self.handle.clone()) })
    }

    /// Makes the tree visible here, for reading. The holder must not write.
    ///
    /// # Errors
    /// When its files cannot be made or mounted.
    pub async fn mount_local(&self) -> Result<LocalMount, Error> {
        let mount = self.handle.inner.view(&self.handle).await?;
        let guard = self.handle.inner.mount_local(mount, true).await?;
        Ok(LocalMount { guard, _handle: Some(self.handle.clone()) })
    }

    /// The committed snapshot with the files; makes it first, if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn snapshot_name(&self) -> Result<SnapshotName, Error> {
        self.handle.inner.materialize(&self.handle.id).await
    }

    /// What is known about the record.
    pub fn metadata(&self) -> RefMetadata {
        RefMetadata::new(self.handle.inner.clone(), self.handle.id.clone())
    }

    /// The records that this one is made of.
    pub fn parents(&self) -> Vec<RefId> {
        let graph = self.handle.inner.graph.lock();
        let record = graph.records.get(&self.handle.id);
        record.map(|record| record.parents.ids().into_iter().cloned().collect()).unwrap_or_default()
    }
}

impl MutableRef {
    /// The record.
    pub fn id(&self) -> &RefId {
        &self.handle.id
    }

    /// How to mount the tree for writing. The mount must not outlive the ref.
    ///
    /// # Errors
    /// When the record is gone.
    pub async fn mount(&self) -> Result<Mounted, Error> {
        let mount = self.handle.inner.view(&self.handle).await?;
        Ok(Mounted { mount, _handle: None })
    }

    /// Makes the tree visible here for writing. The mount must be dropped before the ref.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub async fn mount_local(&self) -> Result<LocalMount, Error> {
        let mount = self.handle.inner.view(&self.handle).await?;
        let guard = self.handle.inner.mount_local(mount, false).await?;
        Ok(LocalMount { guard, _handle: None })
    }

    /// Allows files of another tree to be hard-linked into this one, from directory to directory, each
    /// once. They must not be changed in place afterwards; replacing them is fine. `false` if that is not
    /// possible here.
    ///
    /// # Errors
    /// When one of the records is gone.
    pub async fn link_files_of(&self, source: &ImmutableRef) -> Result<bool, Error> {
        self.handle.inner.entwine(&self.handle.id, &source.handle.id).await
    }

    /// Ends the changes. A retained record stays and can be opened again by its id, as long as the
    /// result was not built upon; then the result is another record that shows the same files.
    /// Otherwise the record itself becomes immutable. Goes on to its end if the caller leaves.
    ///
    /// # Errors
    /// When the snapshot cannot be committed; the changes are lost.
    pub async fn commit(self) -> Result<ImmutableRef, Error> {
        let inner = self.handle.inner.clone();
        inner.commit(self).await
    }

    /// Gives the record up with all that was written, even one that is made to be retained.
    pub fn abandon(self) {
        // Without a record there is nothing to keep; not stored, it is retained over a restart at worst.
        let _ = self.handle.inner.update(&self.handle.id, |record| record.facts.retain = false);
    }

    /// What is known about the record.
    pub fn metadata(&self) -> RefMetadata {
        RefMetadata::new(self.handle.inner.clone(), self.handle.id.clone())
    }
}

impl fmt::Debug for ImmutableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ImmutableRef").field(&self.handle.id).finish()
    }
}

impl fmt::Debug for MutableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutableRef").field(&self.handle.id).finish()
    }
}
