use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::{CreateOptions, ImmutableRef, LocalMount, MutableRef};
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_frontend::FailedState;
use buildkit_solver::{CacheMapStep, Op, OpContext};
use buildkit_solver_errdefs::Subject;
use buildkit_solver_llbsolver_file::{self as file, SharedFiles};
use buildkit_solver_pb::file_action::Action;
use buildkit_solver_pb::{ChownOpt, UserOpt, user_opt::User};
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_system::Root;
use futures::future::{BoxFuture, FutureExt as _, Shared};

use super::{acquire, definition_map};
use crate::domain::{LlbDomain, OpServices, Tree, failed};
use crate::spec::{FileInput, FileSpec, OpSpec, TypedVertex};
use crate::{Error, Result};

/// Changes files. Actions that do not need each other run side by side.
pub(super) struct FileOp {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
}

/// The tree that an action made, for all who need it.
type Made = Shared<BoxFuture<'static, Result<Tree>>>;

impl FileOp {
    pub(super) fn new(services: Arc<OpServices>, vertex: Arc<TypedVertex>) -> Self {
        Self { services, vertex }
    }
}

fn cache_error(error: buildkit_cache::Error) -> Error {
    failed(error.kind(), RemoteError::from_error(&error).message)
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
        let plan = Plan::new(spec);
        let run = Arc::new(Run {
            services: self.services.clone(),
            vertex: self.vertex.clone(),
            name: cx.vertex().name.clone(),
            inputs,
        });
        // The order has what each needs before it, so that the futures nest without recursion here.
        let mut made: HashMap<usize, Made> = HashMap::new();
        for chain in plan.chains {
            let Some(&last) = chain.last() else { continue };
            let needs = chain
                .iter()
                .flat_map(|&at| {
                    let action = &spec.actions[at];
                    [action.input, action.secondary]
                })
                .filter_map(|input| match input {
                    FileInput::Action(at) => made.get(&at).map(|made| (at, made.clone())),
                    _ => None,
                })
                .collect();
            made.insert(last, run.clone().chain(chain, needs).boxed().shared());
        }
        let outputs = spec.outputs.iter().map(|at| {
            let made = made.get(at).cloned();
            async move {
                match made {
                    Some(made) => made.await,
                    None => Err(failed(Kind::Internal, "Output of a file op was not planned")),
                }
            }
        });
        futures::future::try_join_all(outputs).await
    }
}

/// Which actions change one tree, one after another, before anybody else needs it.
struct Plan {
    chains: Vec<Vec<usize>>,
}

impl Plan {
    /// Follows each action by the one that alone goes on with its tree. Only actions that a result
    /// needs are there.
    fn new(spec: &FileSpec) -> Self {
        let count = spec.actions.len();
        let mut needed = vec![false; count];
        let mut users = vec![0usize; count];
        for &at in &spec.outputs {
            needed[at] = true;
            users[at] += 1;
        }
        for &at in spec.order.iter().rev() {
            if !needed[at] {
                continue;
            }
            let action = &spec.actions[at];
            for input in [action.input, action.secondary] {
                if let FileInput::Action(from) = input {
                    needed[from] = true;
                    users[from] += 1;
                }
            }
        }
        let mut chain_of: HashMap<usize, usize> = HashMap::new();
        let mut chains: Vec<Vec<usize>> = Vec::new();
        for &at in spec.order.iter().filter(|&&at| needed[at]) {
            let previous = match spec.actions[at].input {
                FileInput::Action(from) if users[from] == 1 => Some(from),
                _ => None,
            };
            match previous.and_then(|from| chain_of.get(&from).copied()) {
                Some(chain) => {
                    chains[chain].push(at);
                    chain_of.insert(at, chain);
                }
                None => {
                    chain_of.insert(at, chains.len());
                    chains.push(vec![at]);
                }
            }
        }
        // A chain needs what any of its actions copies from: those chains come first.
        let position: HashMap<usize, usize> =
            spec.order.iter().enumerate().map(|(position, &at)| (at, position)).collect();
        chains.sort_by_key(|chain| chain.last().and_then(|at| position.get(at)).copied());
        Self { chains }
    }
}

/// One run of the op.
struct Run {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
    name: String,
    inputs: Vec<Tree>,
}

/// A tree that actions change. The mount goes first.
struct Active {
    mount: LocalMount,
    tree: MutableRef,
    /// Files that it has in common with trees that were copied; nothing if its files may be changed in place.
    shared: Option<Arc<SharedFiles>>,
}

impl Active {
    /// The set of files in common, if files of `source` may be linked: both are directories, not mounts.
    async fn sharing_with(&self, source: Option<&Readable>) -> Option<Arc<SharedFiles>> {
        let shared = self.shared.as_ref().filter(|_| !self.mount.is_mounted())?;
        let Some(Readable::Mounted { mount, tree }) = source else { return None };
        if mount.is_mounted() {
            return None;
        }
        match self.tree.link_files_of(tree).await {
            Ok(true) => Some(shared.clone()),
            Ok(false) => None,
            Err(error) => {
                tracing::debug!(%error, "files are copied, not linked");
                None
            }
        }
    }
}

/// A tree that an action reads.
enum Readable {
    Mounted { mount: LocalMount, tree: ImmutableRef },
    Empty(tempfile::TempDir),
}

impl Readable {
    async fn new(tree: Tree) -> Result<Self> {
        match tree {
            Some(tree) => {
                let mount = tree.mount_local().await.map_err(cache_error)?;
                Ok(Self::Mounted { mount, tree })
            }
            None => tempfile::tempdir().map(Self::Empty).map_err(|error| {
                failed(Kind::of_io(&error), format!("Failed to make an empty directory: {error}"))
            }),
        }
    }

    fn root(&self) -> file::Result<Root> {
        open(match self {
            Self::Mounted { mount, .. } => mount.path(),
            Self::Empty(directory) => directory.path(),
        })
    }
}

/// What one action reads.
#[derive(Default)]
struct Reads {
    source: Option<Readable>,
    users: Option<Readable>,
    groups: Option<Readable>,
}

fn open(path: &Path) -> file::Result<Root> {
    Root::open(path).map_err(|error| file::Error::Invalid(error.to_string()))
}

impl Run {
    fn spec(&self) -> Result<&FileSpec> {
        match &self.vertex.op {
            OpSpec::File(spec) => Ok(spec),
            _ => Err(failed(Kind::Internal, "Vertex is not a file op")),
        }
    }

    fn input(&self, at: usize) -> Tree {
        self.inputs.get(at).cloned().flatten()
    }

    /// Runs the actions of a chain on one tree and makes it a result.
    async fn chain(self: Arc<Self>, chain: Vec<usize>, needs: Vec<(usize, Made)>) -> Result<Tree> {
        let spec = self.spec()?;
        // All side by side; the first error ends the wait.
        let needs = needs.into_iter().map(|(at, made)| async move { Ok::<_, Error>((at, made.await?)) });
        let made: HashMap<usize, Tree> = futures::future::try_join_all(needs).await?.into_iter().collect();
        let tree = |input: FileInput| match input {
            FileInput::Scratch => None,
            FileInput::Input(at) => self.input(at),
            FileInput::Action(at) => made.get(&at).cloned().flatten(),
        };
        let below = chain.first().and_then(|&at| tree(spec.actions[at].input));
        let options = CreateOptions { description: self.name.clone(), ..CreateOptions::default() };
        let active = self.services.cache.create(below.as_ref(), options).await.map_err(cache_error)?;
        let mount = active.mount_local().await.map_err(cache_error)?;
        // This writes into files that exist.
        let in_place = chain.iter().any(|&at| matches!(spec.actions[at].action, Action::Mkfile(_)));
        let shared = (!in_place).then(Arc::default);
        let mut active = Active { mount, tree: active, shared };
        for at in chain {
            let mut reads = self.reads(&spec.actions[at].action).await?;
            if matches!(spec.actions[at].action, Action::Copy(_)) {
                reads.source = Some(Readable::new(tree(spec.actions[at].secondary)).await?);
            }
            active = self.clone().act(at, active, reads).await?;
        }
        drop(active.mount);
        active.tree.commit().await.map(Some).map_err(cache_error)
    }

    /// The files in which the names of an action's owner are looked up.
    async fn reads(&self, action: &Action) -> Result<Reads> {
        let Some(owner) = owner_of(action) else { return Ok(Reads::default()) };
        let named = |who: &Option<UserOpt>| match who.as_ref().and_then(|who| who.user.as_ref()) {
            Some(User::ByName(named)) => usize::try_from(named.input).ok(),
            _ => None,
        };
        let read = async |input: Option<usize>| match input {
            Some(at) => Readable::new(self.input(at)).await.map(Some),
            None => Ok(None),
        };
        let (users, groups) = (named(&owner.user), named(&owner.group));
        Ok(Reads { source: None, users: read(users).await?, groups: read(groups).await? })
    }

    /// Performs one action and gives the tree back.
    async fn act(self: Arc<Self>, at: usize, active: Active, reads: Reads) -> Result<Active> {
        let run = self.clone();
        let shared = active.sharing_with(reads.source.as_ref()).await;
        // What the work needs goes along: if nobody waits any more, it still ends before it is
        // released.
        let work = spawn_blocking(move || {
            let result = match run.spec() {
                Ok(spec) => perform(&spec.actions[at].action, active.mount.path(), &reads, shared.as_ref()),
                Err(error) => Err(file::Error::Invalid(error.to_string())),
            };
            drop(reads);
            (active, result)
        });
        let (active, result) = work.await.map_err(|error| failed(Kind::Internal, error.to_string()))?;
        match result {
            Ok(()) => Ok(active),
            Err(error) => Err(self.with_state(&error, at, active).await),
        }
    }

    /// The error of an action with its tree as it was left.
    async fn with_state(&self, error: &file::Error, at: usize, active: Active) -> Error {
        let mut mounts: Vec<Tree> = vec![None; self.spec().map_or(0, |spec| spec.actions.len())];
        drop(active.mount);
        match active.tree.commit().await {
            Ok(tree) => {
                if let Some(slot) = mounts.get_mut(at) {
                    *slot = Some(tree);
                }
            }
            Err(error) => tracing::warn!(%error, "state of a failed step was not kept"),
        }
        let state = FailedState {
            inputs: self.inputs.clone(),
            mounts,
            subject: i64::try_from(at).ok().map(Subject::File),
            ..FailedState::default()
        };
        failed(error.kind(), RemoteError::from_error(error).message).with_state(state)
    }
}

/// Performs one action. Blocks.
fn perform(
    action: &Action,
    root: &Path,
    reads: &Reads,
    shared: Option<&Arc<SharedFiles>>,
) -> file::Result<()> {
    let root = open(root)?;
    let users = reads.users.as_ref().map(Readable::root).transpose()?;
    let groups = reads.groups.as_ref().map(Readable::root).transpose()?;
    let owner = file::resolve_owner(owner_of(action), users.as_ref(), groups.as_ref())?;
    match action {
        Action::Mkdir(mkdir) => file::mkdir(&root, mkdir, owner),
        Action::Mkfile(mkfile) => file::mkfile(&root, mkfile, owner),
        Action::Symlink(link) => file::symlink(&root, link, owner),
        Action::Rm(rm) => file::rm(&root, rm),
        Action::Copy(copy) => match &reads.source {
            Some(source) => file::copy_or_link(&source.root()?, &root, copy, owner, shared),
            None => Err(file::Error::Invalid("copy has no source".to_owned())),
        },
    }
}

fn owner_of(action: &Action) -> Option<&ChownOpt> {
    match action {
        Action::Mkdir(mkdir) => mkdir.owner.as_ref(),
        Action::Mkfile(mkfile) => mkfile.owner.as_ref(),
        Action::Symlink(link) => link.owner.as_ref(),
        Action::Copy(copy) => copy.owner.as_ref(),
        Action::Rm(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::FileActionSpec;
    use buildkit_solver_pb::FileActionMkDir;

    fn spec(actions: &[(FileInput, FileInput)], outputs: &[usize]) -> FileSpec {
        FileSpec {
            actions: actions
                .iter()
                .map(|&(input, secondary)| FileActionSpec {
                    input,
                    secondary,
                    indexes: [0; 3],
                    action: Action::Mkdir(FileActionMkDir::default()),
                })
                .collect(),
            order: (0..actions.len()).collect(),
            outputs: outputs.to_vec(),
        }
    }

    #[test]
    fn actions_share_a_tree_while_nobody_else_needs_it() {
        use FileInput::{Action as A, Input as I, Scratch as S};
        let chains = |spec| Plan::new(&spec).chains;
        // One after another.
        assert_eq!(chains(spec(&[(I(0), S), (A(0), S), (A(1), S)], &[2])), [[0, 1, 2]]);
        // The first one's tree is a result too.
        assert_eq!(chains(spec(&[(I(0), S), (A(0), S)], &[0, 1])), [vec![0], vec![1]]);
        // Two go on from the same tree; what they copy from comes first.
        assert_eq!(
            chains(spec(&[(S, S), (A(0), S), (A(0), S), (A(1), A(2))], &[3])),
            [vec![0], vec![2], vec![1, 3]]
        );
        // What no result needs is not run.
        assert_eq!(chains(spec(&[(S, S), (S, S)], &[1])), [[1]]);
    }
}
