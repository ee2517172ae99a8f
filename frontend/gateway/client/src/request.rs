use std::collections::BTreeMap;

use buildkit_solver_pb::Definition;
use buildkit_util_cachedigest::Digest;
use bytes::Bytes;

/// A cache to look results up in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheImport {
    /// Kind, such as `registry`.
    pub kind: String,
    /// Its options.
    pub attrs: BTreeMap<String, String>,
}

/// What to solve: a definition, or a frontend with its options. With neither the result is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SolveRequest {
    /// Solve now, not when a ref of the result is used.
    pub evaluate: bool,
    /// A graph. One without operations is an empty tree.
    pub definition: Option<Definition>,
    /// Name of a frontend; empty is none.
    pub frontend: String,
    /// Options of the frontend.
    pub frontend_opt: BTreeMap<String, String>,
    /// Graphs that the frontend may use by name.
    pub frontend_inputs: BTreeMap<String, Definition>,
    /// Caches to use for this solve, beside those of the build.
    pub cache_imports: Vec<CacheImport>,
}

/// What an image is to whoever builds upon it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// The reference that was found, which is another one than was asked for when a policy says so.
    pub reference: String,
    /// What its name stands for: digest of an index or of a manifest.
    pub digest: Digest,
    /// Its configuration, as it is.
    pub config: Bytes,
}
