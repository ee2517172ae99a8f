use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::{CreateOptions, LocalMount, MutableRef};
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_frontend::{BridgeError, FailedState};
use buildkit_solver::{CacheMapStep, Op, OpContext};
use buildkit_solver_errdefs::Subject;
use buildkit_solver_llbsolver_file as file;
use buildkit_solver_pb::file_action::Action;
use buildkit_solver_pb::user_opt::User;
use buildkit_solver_pb::{ChownOpt, UserOpt};
use buildkit_util_appcontext as tasks;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_system::Root;

use super::{acquire, definition_map};
use crate::domain::{LlbDomain, OpServices, Tree, failed};
use crate::spec::{FileInput, FileSpec, OpSpec, TypedVertex};
use crate::{Error, Result};

/// Changes files.
pub(super) struct FileOp {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
}

/// A tree that an action changes. The mount goes first.
struct Active {
    mount: LocalMount,
    tree: MutableRef,
}

/// What an action has made.
enum Made {
    /// Nothing yet, or taken over by the action that goes on with it.
    Nothing,
    /// A tree that the only action that needs it will go on with.
    Active(Active),
    /// A tree for several.
    Tree(Tree),
}

/// A tree that an action reads.
enum Readable {
    Mounted(LocalMount),
    Empty(tempfile::TempDir),
}

impl Readable {
    fn root(&self) -> file::Result<Root> {
        let path = match self {
            Self::Mounted(mount) => mount.path(),
            Self::Empty(directory) => directory.path(),
        };
        Root::open(path).map_err(|error| file::Error::Invalid(error.to_string()))
    }
}

fn cache_error(error: buildkit_cache::Error) -> Error {
    failed(error.kind(), RemoteError::from_error(&error).message)
}

/// Trees by whose names an action finds its owner.
fn owner(action: &Action) -> Option<&ChownOpt> {
    match action {
        Action::Mkdir(mkdir) => mkdir.owner.as_ref(),
        Action::Mkfile(mkfile) => mkfile.owner.as_ref(),
        Action::Symlink(link) => link.owner.as_ref(),
        Action::Copy(copy) => copy.owner.as_ref(),
        Action::Rm(_) => None,
    }
}

/// The tree in which a name is looked up.
fn named_in(user: Option<&UserOpt>, inputs: usize) -> Option<FileInput> {
    let Some(User::ByName(named)) = user.and_then(|user| user.user.as_ref()) else { return None };
    let index = usize::try_from(named.input).ok()?;
    Some(if index < inputs { FileInput::Input(index) } else { FileInput::Action(index - inputs) })
}

/// Whether an action's tree has to be one that others can read: it is a result, or more than the one
/// action that goes on with it needs it.
fn must_commit(spec: &FileSpec, inputs: usize) -> Vec<bool> {
    let mut continued = vec![0_usize; spec.actions.len()];
    let mut commit = vec![false; spec.actions.len()];
    for action in &spec.actions {
        if let FileInput::Action(at) = action.input {
            continued[at] += 1;
        }
        let owner = owner(&action.action);
        let names = owner.map(|owner| [owner.user.as_ref(), owner.group.as_ref()]).unwrap_or_default();
        let read = names.into_iter().filter_map(|user| named_in(user, inputs));
        for input in read.chain([action.secondary]) {
            if let FileInput::Action(at) = input
                && let Some(commit) = commit.get_mut(at)
            {
                *commit = true;
            }
        }
    }
    for &at in &spec.outputs {
        commit[at] = true;
    }
    for (commit, continued) in commit.iter_mut().zip(continued) {
        *commit |= continued > 1;
    }
    commit
}

/// Performs one action. Blocks.
fn perform(
    action: &Action,
    root: &std::path::Path,
    secondary: Option<&Readable>,
    users: Option<&Readable>,
    groups: Option<&Readable>,
) -> file::Result<()> {
    let root = Root::open(root).map_err(|error| file::Error::Invalid(error.to_string()))?;
    let owner = |chown: &Option<ChownOpt>| {
        let users = users.map(Readable::root).transpose()?;
        let groups = groups.map(Readable::root).transpose()?;
        file::resolve_owner(chown.as_ref(), users.as_ref(), groups.as_ref())
    };
    match action {
        Action::Mkdir(mkdir) => file::mkdir(&root, mkdir, owner(&mkdir.owner)?),
        Action::Mkfile(mkfile) => file::mkfile(&root, mkfile, owner(&mkfile.owner)?),
        Action::Symlink(link) => file::symlink(&root, link, owner(&link.owner)?),
        Action::Rm(rm) => file::rm(&root, rm),
        Action::Copy(copy) => {
            let Some(source) = secondary else {
                return Err(file::Error::Invalid("copy has no source".to_owned()));
            };
            file::copy(&source.root()?, &root, copy, owner(&copy.owner)?)
        }
    }
}

impl FileOp {
    pub(super) fn new(services: Arc<OpServices>, vertex: Arc<TypedVertex>) -> Self {
        Self { services, vertex }
    }

    /// The tree that an action changes.
    async fn active(
        &self,
        cx: &OpContext<LlbDomain>,
        input: FileInput,
        inputs: &[Tree],
        made: &mut [Made],
    ) -> Result<Active> {
        let below = match input {
            FileInput::Scratch => None,
            FileInput::Input(at) => inputs.get(at).cloned().flatten(),
            FileInput::Action(at) => match std::mem::replace(&mut made[at], Made::Nothing) {
                Made::Active(active) => return Ok(active),
                Made::Tree(tree) => {
                    made[at] = Made::Tree(tree.clone());
                    tree
                }
                Made::Nothing => return Err(failed(Kind::Internal, "File action needs a later one")),
            },
        };
        let options = CreateOptions { description: cx.vertex().name.clone(), ..CreateOptions::default() };
        let tree = self.services.cache.create(below.as_ref(), options).await.map_err(cache_error)?;
        let mount = tree.mount_local().await.map_err(cache_error)?;
        Ok(Active { mount, tree })
    }

    /// A tree that an action reads.
    async fn readable(input: FileInput, inputs: &[Tree], made: &[Made]) -> Result<Readable> {
        let tree = match input {
            FileInput::Scratch => None,
            FileInput::Input(at) => inputs.get(at).cloned().flatten(),
            FileInput::Action(at) => match made.get(at) {
                Some(Made::Tree(tree)) => tree.clone(),
                _ => return Err(failed(Kind::Internal, "File action needs a later one")),
            },
        };
        match tree {
            Some(tree) => tree.mount_local().await.map(Readable::Mounted).map_err(cache_error),
            None => tempfile::tempdir().map(Readable::Empty).map_err(|error| {
                failed(Kind::of_io(&error), format!("Failed to make an empty directory: {error}"))
            }),
        }
    }

    /// Performs one action and gives back the tree that it changed.
    async fn act(
        &self,
        cx: &OpContext<LlbDomain>,
        spec: &FileSpec,
        at: usize,
        inputs: &[Tree],
        made: &mut [Made],
    ) -> Result<Active> {
        let action = &spec.actions[at];
        let chown = owner(&action.action);
        let named = |user: Option<&UserOpt>| named_in(user, inputs.len());
        let mut read = [None, None, None];
        let wanted = [
            matches!(action.action, Action::Copy(_)).then_some(action.secondary),
            named(chown.and_then(|chown| chown.user.as_ref())),
            named(chown.and_then(|chown| chown.group.as_ref())),
        ];
        for (slot, input) in read.iter_mut().zip(wanted) {
            if let Some(input) = input {
                *slot = Some(Self::readable(input, inputs, made).await?);
            }
        }
        let active = self.active(cx, action.input, inputs, made).await?;
        let vertex = self.vertex.clone();
        // What the work needs goes along: if nobody waits any more, it still ends before it is released.
        let work = tasks::spawn_blocking(move || {
            let result = match &vertex.op {
                OpSpec::File(spec) => {
                    let [secondary, users, groups] = &read;
                    let action = &spec.actions[at].action;
                    perform(action, active.mount.path(), secondary.as_ref(), users.as_ref(), groups.as_ref())
                }
                _ => Err(file::Error::Invalid("Vertex is not a file op".to_owned())),
            };
            drop(read);
            (active, result)
        });
        let (active, result) = work.await.map_err(|error| failed(Kind::Internal, error.to_string()))?;
        match result {
            Ok(()) => Ok(active),
            Err(error) => {
                let mut mounts = vec![None; spec.actions.len()];
                drop(active.mount);
                match active.tree.commit().await {
                    Ok(tree) => mounts[at] = Some(tree),
                    Err(error) => tracing::warn!(%error, "state of a failed step was not kept"),
                }
                let state = FailedState {
                    inputs: inputs.to_vec(),
                    mounts,
                    subject: i64::try_from(at).ok().map(Subject::File),
                    ..FailedState::default()
                };
                let error = RemoteError::from_error(&error);
                Err(Error::Failed(BridgeError { error, state: Some(Arc::new(state)) }))
            }
        }
    }
}

#[async_trait]
impl Op<LlbDomain> for FileOp {
    async fn cache_map(&self, _cx: &OpContext<LlbDomain>, _index: usize) -> Result<CacheMapStep<LlbDomain>> {
        definition_map(&self.services, &self.vertex)
    }

    async fn acquire(&self, _cx: &OpContext<LlbDomain>) -> Result<Box<dyn Send + Sync>> {
        acquire(self.services.parallelism.as_ref()).await
    }

    async fn exec(&self, cx: &OpContext<LlbDomain>, inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        let OpSpec::File(spec) = &self.vertex.op else {
            return Err(failed(Kind::Internal, "Vertex is not a file op"));
        };
        let commit = must_commit(spec, inputs.len());
        let mut made: Vec<Made> = spec.actions.iter().map(|_| Made::Nothing).collect();
        for &at in &spec.order {
            let active = self.act(cx, spec, at, &inputs, &mut made).await?;
            made[at] = if commit[at] {
                drop(active.mount);
                Made::Tree(Some(active.tree.commit().await.map_err(cache_error)?))
            } else {
                Made::Active(active)
            };
        }
        spec.outputs
            .iter()
            .map(|&at| match made.get(at) {
                Some(Made::Tree(tree)) => Ok(tree.clone()),
                _ => Err(failed(Kind::Internal, "File op has a result that no action made")),
            })
            .collect()
    }
}
