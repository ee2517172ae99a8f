//! Definitions as graphs to build upon.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use buildkit_solver_pb::{self as pb, map};
use buildkit_util_cachedigest::Digest;
use prost::Message;

use crate::constraints::{Constraints, LinuxResources, Location, Metadata};
use crate::graph::{EncodedOp, Kind, Node, Output};
use crate::{Definition, Error, Range, Result, SourceMap, State, scratch};

/// Definitions that carry the definition of a source file, which may carry one again.
const MAX_NESTING: usize = 16;

pub(crate) fn load(definition: &Definition) -> Result<State> {
    load_nested(definition, MAX_NESTING)
}

fn load_nested(definition: &Definition, depth: usize) -> Result<State> {
    let error = |text: String| Error::Definition(text);
    let Some((last, ops)) = definition.def.split_last() else { return Ok(scratch()) };
    let depth = depth.checked_sub(1).ok_or_else(|| error("it is nested too deeply".into()))?;
    let mut metadata = map::to_map(definition.metadata.iter().cloned());
    let mut locations = locations(definition, depth)?;
    let mut nodes: HashMap<String, Arc<Node>> = HashMap::new();
    let resolve = |nodes: &HashMap<String, Arc<Node>>, input: &pb::Input| {
        let node = nodes
            .get(&input.digest)
            .ok_or_else(|| error(format!("op `{}` is not before its user", input.digest)))?;
        if input.index < 0 {
            return Err(error(format!("output {} of `{}`", input.index, input.digest)));
        }
        Ok(Output { node: node.clone(), index: input.index })
    };
    for data in ops {
        let op = pb::Op::decode(data.as_ref()).map_err(|e| error(e.to_string()))?;
        let digest = Digest::sha256(data).as_str().to_owned();
        let inputs = op.inputs.iter().map(|input| resolve(&nodes, input)).collect::<Result<_>>()?;
        let kind = Kind::Encoded(Box::new(EncodedOp {
            digest: digest.clone(),
            data: data.clone(),
            metadata: metadata.remove(&digest).map(from_pb).unwrap_or_default(),
            platform: op.platform,
        }));
        let constraints = Constraints {
            locations: locations.remove(&digest).unwrap_or_default(),
            ..Constraints::default()
        };
        nodes.insert(digest, Node::new(kind, inputs, constraints));
    }
    let last = pb::Op::decode(last.as_ref()).map_err(|e| error(e.to_string()))?;
    let result = last.inputs.first().ok_or_else(|| error("its last op selects nothing".to_owned()))?;
    Ok(State::from_output(Some(resolve(&nodes, result)?)))
}

fn locations(definition: &Definition, depth: usize) -> Result<BTreeMap<String, Vec<Location>>> {
    let Some(source) = &definition.source else { return Ok(BTreeMap::new()) };
    let maps = source
        .infos
        .iter()
        .map(|info| {
            let state = info.definition.as_ref().map(|def| load_nested(def, depth)).transpose()?;
            Ok(Arc::new(SourceMap {
                state,
                filename: info.filename.clone(),
                language: info.language.clone(),
                data: info.data.clone(),
            }))
        })
        .collect::<Result<Vec<_>>>()?;
    map::to_map(source.locations.iter().cloned())
        .into_iter()
        .map(|(digest, locations)| {
            let locations = locations
                .locations
                .iter()
                .map(|location| {
                    let index = usize::try_from(location.source_index).ok();
                    let map = index.and_then(|index| maps.get(index)).ok_or_else(|| {
                        Error::Definition(format!("no source file {}", location.source_index))
                    })?;
                    let ranges = location.ranges.iter().map(Range::from_pb).collect();
                    Ok(Location { map: map.clone(), ranges })
                })
                .collect::<Result<_>>()?;
            Ok((digest, locations))
        })
        .collect()
}

fn from_pb(metadata: pb::OpMetadata) -> Metadata {
    Metadata {
        ignore_cache: metadata.ignore_cache,
        description: map::to_map(metadata.description),
        export_cache: metadata.export_cache.map(|export| export.value),
        caps: map::to_map(metadata.caps).into_keys().collect(),
        group: metadata.progress_group,
        resources: metadata.linux_resources.map(|limits| LinuxResources {
            memory: limits.memory,
            memory_swap: limits.memory_swap,
            cpu_shares: limits.cpu_shares,
            cpu_period: limits.cpu_period,
            cpu_quota: limits.cpu_quota,
            cpuset_cpus: limits.cpuset_cpus,
            cpuset_mems: limits.cpuset_mems,
        }),
    }
}
