use std::sync::Arc;

use buildkit_client_llb::{Constrained, MarshalOptions, State};
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_client::{
    GatewayClient, GatewayRef, GatewayResult, ReadFile, RemoteError, SolveRequest,
};
use buildkit_solver_pb::Definition;
use buildkit_solver_result::Refs;
use bytes::Bytes;
use tokio::sync::{Mutex, OnceCell};

use crate::context::BuildContext;
use crate::entrypoint::IgnoreFile;
use crate::error::{invalid, malformed};
use crate::{OptionError, Options};

/// What one run of a frontend has of its user.
pub struct DockerUi {
    pub(crate) client: Arc<dyn GatewayClient>,
    /// What the user wants.
    pub options: Options,
    pub(crate) context: OnceCell<BuildContext>,
    /// Gate: it is read once, by whoever wants it first.
    pub(crate) ignore_file: Mutex<Option<IgnoreFile>>,
}

impl std::fmt::Debug for DockerUi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerUi").field("options", &self.options).finish_non_exhaustive()
    }
}

impl DockerUi {
    /// Reads the options. Nothing is asked of the daemon yet.
    ///
    /// # Errors
    /// When an option makes no sense or was removed long ago, or when the daemon is too old.
    pub fn new(client: Arc<dyn GatewayClient>) -> Result<Self, OptionError> {
        let options = Options::parse(client.build_opts())?;
        Ok(Self { client, options, context: OnceCell::new(), ignore_file: Mutex::new(None) })
    }

    /// The client that it was made of.
    pub fn client(&self) -> &Arc<dyn GatewayClient> {
        &self.client
    }

    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.options.raw.get(key).map(String::as_str)
    }

    /// The session that has a directory of the user.
    pub(crate) fn session_of(&self, directory: &str) -> &str {
        let own = self.options.local_sessions.get(directory);
        own.unwrap_or(&self.client.build_opts().session_id)
    }

    /// Solves the graph of a tree.
    pub(crate) async fn solve(&self, state: &State, evaluate: bool) -> Result<Tree, RemoteError> {
        let definition = state.marshal(&MarshalOptions::new()).map_err(malformed)?;
        let request = SolveRequest { evaluate, definition: Some(definition), ..SolveRequest::default() };
        single(self.client.solve(request).await?).map(Tree::new)
    }
}

/// The state to build upon that an input is.
pub(crate) fn input_state(definition: &Definition) -> Result<State, RemoteError> {
    // On the wire, an input that is not there is one without ops.
    if definition.def.is_empty() {
        return Err(invalid("invalid nil input definition to definition op"));
    }
    State::from_definition(definition).map_err(malformed)
}

/// The only tree of a result.
pub(crate) fn single(result: GatewayResult) -> Result<Option<Arc<dyn GatewayRef>>, RemoteError> {
    match result.refs {
        Refs::Single(tree) => Ok(tree),
        Refs::Many(_) => Err(RemoteError::new(Kind::Internal, "invalid map result")),
    }
}

/// A solved tree, which may be empty.
#[derive(Clone)]
pub(crate) struct Tree(Option<Arc<dyn GatewayRef>>);

impl Tree {
    pub(crate) fn new(tree: Option<Arc<dyn GatewayRef>>) -> Self {
        Self(tree)
    }

    /// A file that need not be there. A tree that cannot be made has none: whoever needs that tree for more is
    /// told what is wrong with it.
    pub(crate) async fn read_or_nothing(&self, path: &str) -> Bytes {
        self.read(ReadFile::whole(path)).await.unwrap_or_default()
    }

    pub(crate) async fn read(&self, file: ReadFile) -> Result<Bytes, RemoteError> {
        match &self.0 {
            Some(tree) => tree.read_file(file).await,
            None => Err(RemoteError::new(
                Kind::NotFound,
                format!("open {}: no such file or directory", file.path),
            )),
        }
    }
}

/// Shows an operation as the frontend's own work.
pub(crate) fn internal<T: Constrained>(operation: T, name: &str) -> T {
    operation.custom_name(&format!("[internal] {name}"))
}
