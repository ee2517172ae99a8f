use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use buildkit_solver_pb::{self as pb, attr, caps, map};
use buildkit_util_cachedigest::Digest;
use bytes::Bytes;

use crate::constraints::{Constrained, Constraints, Location, Metadata};
use crate::graph::{EncodedOp, Kind, Node, Output};
use crate::{Definition, Error, Platform, Result, SourceMap, State, marshal_exec, marshal_file};

/// How a graph is written.
///
/// As [`Constrained`], it holds the constraints of all ops that have none of their own: without a
/// platform this program's, without a local unique id a random one.
#[derive(Clone, Debug, Default)]
pub struct MarshalOptions {
    constraints: Constraints,
    caps: Option<BTreeSet<String>>,
}

impl Constrained for MarshalOptions {
    fn constraints_mut(&mut self) -> &mut Constraints {
        &mut self.constraints
    }
}

impl MarshalOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Capabilities of the daemon that will read the definition, so that what it lacks is written in
    /// another way.
    #[must_use]
    pub fn supported_caps<S: Into<String>>(mut self, caps: impl IntoIterator<Item = S>) -> Self {
        self.caps = Some(caps.into_iter().map(Into::into).collect());
        self
    }
}

/// What ops need to know while they are encoded.
pub(crate) struct Context<'a> {
    constraints: &'a Constraints,
    pub(crate) caps: Option<&'a BTreeSet<String>>,
    platform: Platform,
    unique_id: String,
    /// Digests of the nodes that are encoded.
    digests: HashMap<*const Node, String>,
}

impl Context<'_> {
    /// A reference to an encoded node.
    pub(crate) fn input(&self, output: &Output) -> pb::Input {
        let output = output.decided();
        let digest = self.digests.get(&Arc::as_ptr(&output.node)).cloned().unwrap_or_default();
        pb::Input { digest, index: output.index }
    }

    /// The platform of an op whose own constraints and state name these.
    pub(crate) fn platform<'b>(
        &'b self,
        own: Option<&'b Platform>,
        state: Option<&'b Platform>,
    ) -> &'b Platform {
        own.or(state).unwrap_or(&self.platform)
    }

    fn worker_constraints(&self, own: &Constraints) -> pb::WorkerConstraints {
        let filter = self.constraints.worker.iter().chain(&own.worker).cloned().collect();
        pb::WorkerConstraints { filter }
    }
}

/// An op on its way to be encoded.
pub(crate) struct Draft {
    pub(crate) op: pb::op::Op,
    pub(crate) inputs: Vec<pb::Input>,
    pub(crate) platform: Option<Platform>,
    pub(crate) caps: Vec<&'static str>,
}

/// Index of an input, which is added unless it is there.
pub(crate) fn add_input(inputs: &mut Vec<pb::Input>, input: pb::Input) -> usize {
    inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
        inputs.push(input);
        inputs.len() - 1
    })
}

/// An index as the wire has it.
pub(crate) fn wire_index(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

pub(crate) fn marshal(state: &State, options: &MarshalOptions) -> Result<Definition> {
    let Some(root) = &state.output else { return Ok(Definition::default()) };
    let root = root.decided();
    let constraints = &options.constraints;
    let mut context = Context {
        constraints,
        caps: options.caps.as_ref(),
        platform: constraints.platform.clone().unwrap_or_else(host_platform),
        unique_id: constraints.unique_id.clone().unwrap_or_else(buildkit_identity::new_id),
        digests: HashMap::new(),
    };
    let mut writer = Writer::default();
    // Inputs before users, without recursion: graphs may be deep.
    let mut path: Vec<(&Node, usize)> = vec![(&root.node, 0)];
    while let Some((node, next)) = path.last_mut() {
        if let Some(input) = node.inputs.get(*next) {
            *next += 1;
            let input = input.decided();
            if !context.digests.contains_key(&Arc::as_ptr(&input.node)) {
                path.push((&input.node, 0));
            }
            continue;
        }
        let node = *node;
        path.pop();
        let digest = writer.add(node, encode(node, &context)?);
        context.digests.insert(std::ptr::from_ref(node), digest);
    }
    writer.finish(context.input(root), options)
}

fn host_platform() -> Platform {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let architecture = match std::env::consts::ARCH {
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    Platform::new(os, architecture).normalized()
}

struct Encoded {
    digest: String,
    data: Bytes,
    metadata: Metadata,
}

fn encode(node: &Node, context: &Context<'_>) -> Result<Encoded> {
    let own = &node.constraints;
    let draft = match &node.kind {
        Kind::Invalid(error) => return Err(error.clone()),
        Kind::Late(_) => return Err(Error::IncompleteOp { op: "A late state", what: "a tree" }),
        Kind::Encoded(op) => {
            let EncodedOp { digest, data, metadata, .. } = op.as_ref();
            return Ok(Encoded { digest: digest.clone(), data: data.clone(), metadata: metadata.clone() });
        }
        Kind::Source { identifier, attrs } => source(identifier, attrs, own, context)?,
        Kind::Exec(spec) => marshal_exec::draft(spec, node, context)?,
        Kind::File(bound) => marshal_file::draft(bound, context)?,
        Kind::Merge => {
            let inputs: Vec<_> = node.inputs.iter().map(|o| context.input(o)).collect();
            let merged = (0..inputs.len()).map(|i| pb::MergeInput { input: wire_index(i) });
            let op = pb::op::Op::Merge(pb::MergeOp { inputs: merged.collect() });
            Draft { op, inputs, platform: None, caps: Vec::new() }
        }
        Kind::Diff { lower, upper } => {
            let inputs = node.inputs.iter().map(|o| context.input(o)).collect();
            let index = |is_input, index| if is_input { index } else { pb::EMPTY_INPUT };
            let op = pb::op::Op::Diff(pb::DiffOp {
                lower: Some(pb::LowerDiffInput { input: index(*lower, 0) }),
                upper: Some(pb::UpperDiffInput { input: index(*upper, i64::from(*lower)) }),
            });
            Draft { op, inputs, platform: None, caps: Vec::new() }
        }
        Kind::Build { filename } => build(filename, node, context),
        Kind::Passthrough { id, outputs } => {
            if outputs.is_empty() {
                return Err(Error::IncompleteOp { op: "Passthrough", what: "an output" });
            }
            let op = pb::op::Op::Passthrough(pb::PassthroughOp {
                id: id.clone(),
                outputs: outputs.iter().map(|&index| wire_index(index)).collect(),
            });
            let inputs = node.inputs.iter().map(|o| context.input(o)).collect();
            Draft { op, inputs, platform: None, caps: Vec::new() }
        }
    };
    let mut metadata = context.constraints.metadata.clone();
    metadata.merge(&own.metadata);
    for cap in draft.caps {
        metadata.add_cap(cap);
    }
    let op = pb::Op {
        inputs: draft.inputs,
        op: Some(draft.op),
        platform: draft.platform,
        constraints: Some(context.worker_constraints(own)),
    };
    let data = Bytes::from(op.encode_deterministic());
    Ok(Encoded { digest: Digest::sha256(&data).as_str().to_owned(), data, metadata })
}

fn source(
    identifier: &str,
    attrs: &BTreeMap<String, String>,
    own: &Constraints,
    context: &Context<'_>,
) -> Result<Draft> {
    if identifier.is_empty() {
        return Err(Error::IncompleteOp { op: "Source", what: "an identifier" });
    }
    let mut attrs = attrs.clone();
    let mut caps = Vec::new();
    if identifier.starts_with("local://") && !attrs.contains_key(attr::LOCAL_SESSION_ID) {
        let id = own.unique_id.as_ref().unwrap_or(&context.unique_id);
        attrs.insert(attr::LOCAL_UNIQUE_ID.to_owned(), id.clone());
        caps.push(caps::SOURCE_LOCAL_UNIQUE);
    }
    // What other sources give does not depend on the platform.
    let is_image = identifier.starts_with("docker-image://") || identifier.starts_with("oci-layout://");
    let platform = is_image.then(|| context.platform(own.platform.as_ref(), None).clone());
    let op = pb::SourceOp { identifier: identifier.to_owned(), attrs: map::from_map(attrs) };
    Ok(Draft { op: pb::op::Op::Source(op), inputs: Vec::new(), platform, caps })
}

fn build(filename: &str, node: &Node, context: &Context<'_>) -> Draft {
    let mut attrs = BTreeMap::new();
    if !filename.is_empty() {
        attrs.insert(attr::LLB_DEFINITION_FILENAME.to_owned(), filename.to_owned());
    }
    let input = (pb::LLB_DEFINITION_INPUT.to_owned(), pb::BuildInput { input: 0 });
    let op = pb::BuildOp {
        builder: pb::LLB_BUILDER,
        inputs: map::from_map([input]),
        def: None,
        attrs: map::from_map(attrs),
    };
    Draft {
        op: pb::op::Op::Build(op),
        inputs: node.inputs.iter().map(|o| context.input(o)).collect(),
        platform: Some(context.platform(node.constraints.platform.as_ref(), None).clone()),
        caps: Vec::new(),
    }
}

/// Collects a definition.
#[derive(Default)]
struct Writer {
    ops: Vec<Bytes>,
    metadata: BTreeMap<String, Metadata>,
    maps: Vec<Arc<SourceMap>>,
    locations: BTreeMap<String, Vec<pb::Location>>,
}

impl Writer {
    /// Adds an op once, and what each of its nodes says about it.
    fn add(&mut self, node: &Node, encoded: Encoded) -> String {
        let digest = encoded.digest;
        let locations: Vec<_> =
            node.constraints.locations.iter().map(|location| self.location(location)).collect();
        self.locations.entry(digest.clone()).or_default().extend(locations);
        match self.metadata.get_mut(&digest) {
            Some(known) => known.merge(&encoded.metadata),
            None => {
                self.metadata.insert(digest.clone(), encoded.metadata);
                self.ops.push(encoded.data);
            }
        }
        digest
    }

    fn location(&mut self, location: &Location) -> pb::Location {
        let known = self.maps.iter().position(|map| map.is_same(&location.map));
        let index = known.unwrap_or_else(|| {
            self.maps.push(location.map.clone());
            self.maps.len() - 1
        });
        pb::Location {
            source_index: i32::try_from(index).unwrap_or(i32::MAX),
            ranges: location.ranges.iter().map(|range| range.to_pb()).collect(),
        }
    }

    /// Adds the op that selects the result, and what the definition as a whole needs.
    fn finish(mut self, result: pb::Input, options: &MarshalOptions) -> Result<Definition> {
        let last = pb::Op { inputs: vec![result], ..pb::Op::default() };
        let data = Bytes::from(last.encode_deterministic());
        let mut needs = Metadata::default();
        needs.add_cap(caps::CONSTRAINTS);
        needs.add_cap(caps::PLATFORM);
        for metadata in self.metadata.values() {
            for (is_used, cap) in [
                (metadata.ignore_cache, caps::META_IGNORE_CACHE),
                (!metadata.description.is_empty(), caps::META_DESCRIPTION),
                (metadata.export_cache.is_some(), caps::META_EXPORT_CACHE),
            ] {
                if is_used {
                    needs.add_cap(cap);
                }
            }
        }
        self.metadata.insert(Digest::sha256(&data).as_str().to_owned(), needs);
        self.ops.push(data);
        Ok(Definition {
            def: self.ops,
            metadata: map::from_map(
                self.metadata.into_iter().map(|(digest, metadata)| (digest, metadata.into_pb())),
            ),
            source: Some(pb::Source {
                locations: map::from_map(
                    self.locations
                        .into_iter()
                        .map(|(digest, locations)| (digest, pb::Locations { locations })),
                ),
                infos: self.maps.iter().map(|map| map.to_info(options)).collect::<Result<_>>()?,
            }),
        })
    }
}

impl Metadata {
    fn into_pb(self) -> pb::OpMetadata {
        pb::OpMetadata {
            ignore_cache: self.ignore_cache,
            description: map::from_map(self.description),
            export_cache: self.export_cache.map(|value| pb::ExportCache { value }),
            caps: map::from_map(self.caps.into_iter().map(|cap| (cap, true))),
            progress_group: self.group,
            linux_resources: self.resources.map(|limits| pb::LinuxResources {
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
}
