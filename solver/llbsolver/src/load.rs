//! From a definition to a graph that the solver takes.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_frontend::BridgeError;
use buildkit_solver::{Edge, Graph, VertexId};
use buildkit_solver_llbsolver_ops::{LlbDomain, LoadOptions, Loaded, OpSpec};
use buildkit_solver_pb::map::MapEntry as _;
use buildkit_solver_pb::{self as pb, Definition, Location};
use buildkit_util_appcontext as tasks;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;

use crate::build::BuildCore;

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

/// Checks a definition against what the daemon can do and the build may do. `depth` is how deep it is
/// nested in build ops.
pub(crate) async fn load(
    core: &Arc<BuildCore>,
    definition: &Arc<Definition>,
    depth: u32,
) -> Result<LoadedGraph, BridgeError> {
    let (core, definition) = (core.clone(), definition.clone());
    // Hashing and checking a large definition takes a while and never waits.
    tasks::spawn_blocking(move || load_now(&core, &definition, depth))
        .await
        .unwrap_or_else(|error| Err(RemoteError::new(Kind::Internal, error.to_string()).into()))
}

fn load_now(core: &BuildCore, definition: &Definition, depth: u32) -> Result<LoadedGraph, BridgeError> {
    let options = &core.solver.shared.options;
    let refused = |kind: Kind, text: String| {
        BridgeError::from(RemoteError::new(kind, format!("failed to load LLB: {text}")))
    };
    let loaded = Loaded::new(
        definition.clone(),
        &LoadOptions { default_platform: &options.default_platform, caps: Some(&options.llb_caps), depth },
    )
    .map_err(|error| refused(error.kind(), error.to_string()))?;
    let granted = &core.entitlements;
    for vertex in &loaded.vertices {
        if let OpSpec::Exec(exec) = &vertex.payload.op {
            granted
                .check(
                    exec.op.network() == pb::NetMode::Host,
                    exec.op.security() == pb::SecurityMode::Insecure,
                )
                .map_err(|error| refused(error.kind(), error.to_string()))?;
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
