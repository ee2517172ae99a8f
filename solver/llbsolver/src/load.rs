//! From a definition to a graph that the solver takes.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend::BridgeError;
use buildkit_solver::{Edge, Graph, VertexId};
use buildkit_solver_llbsolver_ops::{DecodedDefinition, LlbDomain, LoadOptions, OpSpec};
use buildkit_solver_pb::map::MapEntry as _;
use buildkit_solver_pb::{self as pb, Definition, Location};
use buildkit_sourcepolicy::Engine;
use buildkit_util_appcontext as tasks;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;

use crate::build::BuildCore;
use crate::policy::{apply, doing};

/// What was attempted when a definition is refused.
const FAILED: &str = "failed to load LLB";

/// A definition, ready to be solved.
pub(crate) struct LoadedGraph {
    pub(crate) graph: Graph<LlbDomain>,
    pub(crate) root: Edge,
    pub(crate) sources: Sources,
}

/// Where the steps of a definition stand in source files.
#[derive(Default)]
pub(crate) struct Sources {
    infos: Vec<pb::SourceInfo>,
    locations: HashMap<VertexId, Vec<Location>>,
}

impl Sources {
    /// Files and ranges of a vertex.
    pub(crate) fn of(&self, vertex: &VertexId) -> impl Iterator<Item = (&pb::SourceInfo, &[pb::Range])> {
        self.locations.get(vertex).into_iter().flatten().filter_map(|location| {
            let index = usize::try_from(location.source_index).ok()?;
            Some((self.infos.get(index)?, location.ranges.as_slice()))
        })
    }

    fn new(source: Option<&pb::Source>, sent: &HashMap<Digest, VertexId>) -> Self {
        let Some(source) = source else { return Self::default() };
        let mut locations: HashMap<VertexId, Vec<Location>> = HashMap::new();
        for entry in &source.locations {
            let (digest, found) = entry.clone().into_parts();
            if let Some(vertex) = Digest::parse(&digest).ok().and_then(|digest| sent.get(&digest)) {
                locations.entry(vertex.clone()).or_default().extend(found.locations);
            }
        }
        Self { infos: source.infos.clone(), locations }
    }
}

/// Checks a definition against what the daemon can do and the build may do, its sources against `rules` and the
/// decisions of the client. `depth` is how deep it is nested in build ops.
pub(crate) async fn load(
    core: &Arc<BuildCore>,
    definition: &Arc<Definition>,
    depth: u32,
    rules: &Engine,
) -> Result<LoadedGraph, BridgeError> {
    let mut decoded = None;
    if core.policy.applies(rules) {
        let definition = definition.clone();
        let mut ops = blocking(move || decode(&definition)).await?;
        apply(core, rules, &mut ops).await.map_err(|error| doing(FAILED, error))?;
        decoded = Some(ops);
    }
    let (core, definition) = (core.clone(), definition.clone());
    blocking(move || load_now(&core, &definition, decoded, depth)).await
}

/// Hashing and checking a large definition takes a while and never waits.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BridgeError> + Send + 'static,
) -> Result<T, BridgeError> {
    tasks::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(RemoteError::new(Kind::Internal, error.to_string()).into()))
}

fn refused<E: Classify>(error: &E) -> BridgeError {
    let refused = RemoteError::new(error.kind(), format!("{FAILED}: {error}"));
    // What no client of upstream's would send keeps its code.
    if refused.kind == Kind::InvalidArgument { refused } else { refused.of_build() }.into()
}

fn decode(definition: &Definition) -> Result<DecodedDefinition, BridgeError> {
    DecodedDefinition::decode(definition.clone()).map_err(|error| refused(&error))
}

/// `decoded` is the definition with its sources as they are to be, if that is decided already.
fn load_now(
    core: &BuildCore,
    definition: &Definition,
    decoded: Option<DecodedDefinition>,
    depth: u32,
) -> Result<LoadedGraph, BridgeError> {
    let options = &core.solver.shared.options;
    let decoded = decoded.map_or_else(|| decode(definition), Ok)?;
    let loaded = decoded
        .load(&LoadOptions {
            default_platform: &options.default_platform,
            caps: Some(&options.llb_caps),
            depth,
        })
        .map_err(|error| refused(&error))?;
    let granted = &core.entitlements;
    for vertex in &loaded.vertices {
        if let OpSpec::Exec(exec) = &vertex.payload.op {
            granted
                .check(
                    exec.op.network() == pb::NetMode::Host,
                    exec.op.security() == pb::SecurityMode::Insecure,
                )
                .map_err(|error| refused(&error))?;
        }
    }
    // Steps that ignore the cache start with empty cache directories.
    let mounts = &options.solver.domain().services().mounts;
    for id in loaded.pruned_cache_mounts().keys() {
        mounts.prune_cache_mounts(id);
    }
    core.layers.want(&loaded);
    let sources = Sources::new(definition.source.as_ref(), &loaded.sent);
    Ok(LoadedGraph { graph: loaded.graph(), root: loaded.root, sources })
}
