//! The refs that a build handed out, by the ids that its driver knows them by.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use buildkit_cache::{ImmutableRef, LocalMount};
use buildkit_errdefs::Kind;
use buildkit_frontend::{BridgeError, FailedState, Reference};
use buildkit_solver_errdefs as errdefs;
use buildkit_util_grpcerrors::RemoteError;
use parking_lot::Mutex;

/// Refs and their mounts. All are released with it.
#[derive(Default)]
pub(crate) struct Refs {
    /// `None` is an empty tree.
    refs: Mutex<HashMap<String, Arc<dyn Reference>>>,
    /// States of failed steps, which a driver may look into.
    failed: Mutex<HashMap<String, ImmutableRef>>,
    /// Gate: a tree is mounted once, by whoever looks into it first.
    mounts: tokio::sync::Mutex<HashMap<String, Arc<LocalMount>>>,
    empty: Mutex<Option<tempfile::TempDir>>,
}

impl Refs {
    /// Keeps a ref under a new id.
    pub(crate) fn add(&self, reference: Arc<dyn Reference>) -> String {
        let id = buildkit_identity::new_id();
        self.refs.lock().insert(id.clone(), reference);
        id
    }

    /// The ref of an id.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<dyn Reference>, RemoteError> {
        self.refs
            .lock()
            .get(id)
            .cloned()
            .ok_or_else(|| RemoteError::new(Kind::NotFound, format!("no such ref: {id}")))
    }

    /// Makes the tree of an id; `None` is an empty tree.
    pub(crate) async fn evaluate(&self, id: &str) -> Result<Option<ImmutableRef>, RemoteError> {
        if let Some(tree) = self.failed.lock().get(id) {
            return Ok(Some(tree.clone()));
        }
        let reference = self.get(id)?;
        reference.result().await.map_err(|error| self.with_state(error))
    }

    /// A directory with the tree of an id, for reading; it stays until the build ends.
    pub(crate) async fn directory(&self, id: &str) -> Result<PathBuf, RemoteError> {
        let Some(tree) = self.evaluate(id).await? else {
            return self.empty_directory();
        };
        let mut mounts = self.mounts.lock().await;
        if let Some(mount) = mounts.get(id) {
            return Ok(mount.path().to_owned());
        }
        let mount = tree.mount_local().await.map_err(|error| RemoteError::from_error(&error))?;
        let path = mount.path().to_owned();
        mounts.insert(id.to_owned(), Arc::new(mount));
        Ok(path)
    }

    fn empty_directory(&self) -> Result<PathBuf, RemoteError> {
        let known = self.empty.lock().as_ref().map(|directory| directory.path().to_owned());
        if let Some(path) = known {
            return Ok(path);
        }
        let directory = tempfile::tempdir().map_err(|error| {
            RemoteError::new(Kind::of_io(&error), format!("Failed to make a directory: {error}"))
        })?;
        // Another caller may have made one in the meantime: the first one stays.
        Ok(self.empty.lock().get_or_insert(directory).path().to_owned())
    }

    /// Adds to an error the ids under which the state of the failed step can be looked into.
    pub(crate) fn with_state(&self, error: BridgeError) -> RemoteError {
        let Some(state) = error.state else {
            return error.error;
        };
        let FailedState { inputs, mounts, op_json, subject, description } = &*state;
        let (inputs, mounts) = (self.keep(inputs), self.keep(mounts));
        let detail = errdefs::solve(&inputs, &mounts, op_json.as_deref(), *subject, description);
        error.error.with(detail)
    }

    fn keep(&self, trees: &[Option<ImmutableRef>]) -> Vec<String> {
        let mut failed = self.failed.lock();
        trees
            .iter()
            .map(|tree| {
                tree.as_ref().map_or_else(String::new, |tree| {
                    let id = tree.id().to_string();
                    failed.entry(id.clone()).or_insert_with(|| tree.clone());
                    id
                })
            })
            .collect()
    }
}
