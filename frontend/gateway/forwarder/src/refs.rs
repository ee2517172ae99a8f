//! The refs that a build handed out, by the ids that its frontend knows them by.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use buildkit_cache::{ImmutableRef, LocalMount};
use buildkit_errdefs::Kind;
use buildkit_frontend::{BridgeError, FailedState, Reference};
use buildkit_solver_errdefs as errdefs;
use buildkit_util_grpcerrors::{Detail, RemoteError};
use parking_lot::Mutex;

/// Refs and their mounts. All are released with it.
#[derive(Default)]
pub(crate) struct Refs {
    refs: Mutex<HashMap<String, Arc<dyn Reference>>>,
    failures: Mutex<Failures>,
    /// Gate: a tree is mounted once, by whoever looks into it first.
    mounts: tokio::sync::Mutex<HashMap<String, Arc<LocalMount>>>,
    empty: Mutex<Option<Arc<tempfile::TempDir>>>,
}

/// Steps that failed, which a frontend may look into.
#[derive(Default)]
struct Failures {
    trees: HashMap<String, ImmutableRef>,
    /// What frontends were told of each.
    told: Vec<(Detail, Arc<FailedState>)>,
}

/// A directory with a tree, which stays as long as this.
pub(crate) enum Directory {
    Mounted(Arc<LocalMount>),
    Empty(Arc<tempfile::TempDir>),
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Mounted(mount) => mount.path(),
            Self::Empty(directory) => directory.path(),
        }
    }
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

    /// Whether an id is that of a tree of a step that failed.
    pub(crate) fn is_of_failure(&self, id: &str) -> bool {
        self.failures.lock().trees.contains_key(id)
    }

    /// Makes the tree of an id; `None` is an empty tree.
    pub(crate) async fn evaluate(&self, id: &str) -> Result<Option<ImmutableRef>, RemoteError> {
        if let Some(tree) = self.failures.lock().trees.get(id) {
            return Ok(Some(tree.clone()));
        }
        let reference = self.get(id)?;
        reference.result().await.map_err(|error| self.with_state(error))
    }

    /// A directory with the tree of an id, for reading.
    pub(crate) async fn directory(&self, id: &str) -> Result<Directory, RemoteError> {
        let Some(tree) = self.evaluate(id).await? else {
            return self.empty_directory();
        };
        let mut mounts = self.mounts.lock().await;
        if let Some(mount) = mounts.get(id) {
            return Ok(Directory::Mounted(mount.clone()));
        }
        let mount = tree.mount_local().await.map_err(|error| RemoteError::from_error(&error))?;
        let mount = Arc::new(mount);
        mounts.insert(id.to_owned(), mount.clone());
        Ok(Directory::Mounted(mount))
    }

    fn empty_directory(&self) -> Result<Directory, RemoteError> {
        if let Some(known) = &*self.empty.lock() {
            return Ok(Directory::Empty(known.clone()));
        }
        let directory = tempfile::tempdir().map_err(|error| {
            RemoteError::new(Kind::of_io(&error), format!("Failed to make a directory: {error}"))
        })?;
        // Another caller may have made one in the meantime: the first one stays.
        Ok(Directory::Empty(self.empty.lock().get_or_insert_with(|| Arc::new(directory)).clone()))
    }

    /// Adds to an error the ids under which the state of the failed step can be looked into.
    pub(crate) fn with_state(&self, error: BridgeError) -> RemoteError {
        let Some(state) = error.state else {
            return error.error;
        };
        let FailedState { inputs, mounts, op_json, subject, description } = &*state;
        let mut failures = self.failures.lock();
        let (inputs, mounts) = (failures.keep(inputs), failures.keep(mounts));
        let detail = errdefs::solve(&inputs, &mounts, op_json.as_deref(), *subject, description);
        if !failures.told.iter().any(|(told, _)| *told == detail) {
            failures.told.push((detail.clone(), state.clone()));
        }
        error.error.with(detail)
    }

    /// The reverse of [`with_state`](Self::with_state): an error that a frontend passes on gets back the state that it was
    /// told of by ids that nobody else knows.
    pub(crate) fn take_state(&self, mut error: RemoteError) -> BridgeError {
        let failures = self.failures.lock();
        let mut state = None;
        error.details.retain(|detail| match failures.told.iter().find(|(told, _)| told == detail) {
            Some((_, told)) => {
                state.get_or_insert_with(|| told.clone());
                false
            }
            None => true,
        });
        BridgeError { error, state }
    }
}

impl Failures {
    fn keep(&mut self, trees: &[Option<ImmutableRef>]) -> Vec<String> {
        trees
            .iter()
            .map(|tree| {
                tree.as_ref().map_or_else(String::new, |tree| {
                    let id = tree.id().to_string();
                    self.trees.entry(id.clone()).or_insert_with(|| tree.clone());
                    id
                })
            })
            .collect()
    }
}
