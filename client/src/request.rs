use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use buildkit_session::SessionServer;
use buildkit_solver_pb::Definition;
use buildkit_sourcepolicy_pb::Policy;
use buildkit_sourcepolicy_policysession::PolicyVerifier;
use buildkit_util_contentutil::ContentStore;

/// A build.
#[derive(Default)]
pub struct BuildRequest {
    /// Id of the build; a random one when empty.
    pub reference: String,
    /// The graph, if no frontend makes it.
    pub definition: Option<Definition>,
    /// Who makes the graph.
    pub frontend: Frontend,
    /// Graphs that the frontend may use by name.
    pub frontend_inputs: BTreeMap<String, Definition>,
    /// Where results go.
    pub exports: Vec<Export>,
    /// Where the cache goes.
    pub cache_exports: Vec<CacheOption>,
    /// Where more cache comes from.
    pub cache_imports: Vec<CacheOption>,
    /// Directories that the build may read, by name.
    pub local: BTreeMap<String, PathBuf>,
    /// Image layouts that the build may read, by name.
    pub oci_stores: BTreeMap<String, Arc<dyn ContentStore>>,
    /// What the build may do, such as `network.host`.
    pub entitlements: Vec<String>,
    /// Rules about sources.
    pub source_policy: Option<Policy>,
    /// Decides about each source that the rules allow.
    pub source_policy_verifier: Option<Arc<dyn PolicyVerifier>>,
    /// Enforces the proxy network.
    pub proxy_network: bool,
    /// Keeps the build out of the history.
    pub internal: bool,
    /// Names clients whose directories are the same.
    pub shared_key: String,
    /// Adds further services to the session, such as secrets and agents.
    pub attach: Vec<Attach>,
}

/// Adds services to a session.
pub type Attach = Box<dyn FnOnce(&mut SessionServer) + Send>;

/// What makes a graph from files.
#[derive(Clone, Debug, Default)]
pub struct Frontend {
    /// Its name; empty is none.
    pub name: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// Where a result goes.
#[derive(Clone)]
pub struct Export {
    /// Kind of exporter.
    pub kind: String,
    /// Its options.
    pub attrs: BTreeMap<String, String>,
    /// What of this machine it writes to.
    pub target: ExportTarget,
}

impl Export {
    /// Whether an image goes into a content store of the client, blob by blob.
    pub(crate) fn fills_store(&self) -> bool {
        matches!(self.kind.as_str(), "oci" | "docker")
            && matches!(self.target, ExportTarget::Directory(_) | ExportTarget::Store(_))
    }
}

/// What of this machine an exporter writes to.
#[derive(Clone)]
pub enum ExportTarget {
    /// Nothing.
    None,
    /// A directory. Exporters of images make it a layout.
    Directory(PathBuf),
    /// A content store, for exporters of images. Who calls names what is in it then.
    Store(Arc<dyn ContentStore>),
    /// A file that is open already; standard output, for example.
    File(Arc<std::fs::File>),
}

impl Export {
    /// An exporter without options that writes to a directory.
    pub fn directory(kind: &str, path: impl Into<PathBuf>) -> Self {
        Self { kind: kind.to_owned(), attrs: BTreeMap::new(), target: ExportTarget::Directory(path.into()) }
    }
}

/// A place that cache goes to or comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheOption {
    /// Kind of place.
    pub kind: String,
    /// Its options.
    pub attrs: BTreeMap<String, String>,
}

impl BuildRequest {
    /// A build of a graph that goes nowhere.
    pub fn of(definition: Definition) -> Self {
        Self { definition: Some(definition), ..Self::default() }
    }
}

/// What a build left behind.
#[derive(Clone, Debug, Default)]
pub struct BuildResponse {
    /// What exporters said.
    pub exporter: BTreeMap<String, String>,
    /// What the frontend said about its result.
    pub metadata: BTreeMap<String, Vec<u8>>,
}
