//! From a definition to typed vertices in topological order.
//!
//! The walk is linear in ops and edges and uses no recursion, whatever the definition looks like.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use buildkit_solver::{CacheOptions, Edge, VertexId};
use buildkit_solver_pb::map::MapEntry as _;
use buildkit_solver_pb::{self as pb, RawOp};
use buildkit_util_apicaps::CapSet;
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::ProgressGroup;

use crate::name::op_name;
use crate::spec::{OpSpec, TypedVertex};
use crate::validate::validate;
use crate::{Error, Result};

/// Most ops of one definition.
pub const MAX_OPS: usize = 500_000;

/// Most bytes of one op.
pub const MAX_OP_SIZE: usize = 16 << 20;

/// Most definitions that may be found one in the other.
pub const MAX_DEPTH: u32 = 64;

/// How definitions are understood.
pub struct LoadOptions<'a> {
    /// Platform of ops that name none.
    pub default_platform: &'a pb::Platform,
    /// What ops may ask for; `None` for definitions that this daemon made itself.
    pub caps: Option<&'a CapSet>,
    /// How many definitions were found one in the other on the way to this one; 0 for a client's.
    pub depth: u32,
}

/// A definition whose ops are decoded and not yet checked. Between the two steps sources may be
/// changed, as source policies do.
pub struct DecodedDefinition {
    ops: Vec<DecodedOp>,
    by_digest: HashMap<String, usize>,
    metadata: HashMap<String, pb::OpMetadata>,
}

struct DecodedOp {
    raw: RawOp,
    /// Digest of the bytes as they were sent, which inputs and metadata refer to.
    sent: Digest,
    /// Whether the bytes that were sent are the deterministic encoding still.
    canonical: bool,
}

/// A checked definition.
#[derive(Debug)]
pub struct Loaded {
    /// The vertices that the result needs, each after its inputs, each id once.
    pub vertices: Vec<LoadedVertex>,
    /// What is asked for.
    pub root: Edge,
    /// The vertex of each op by the digest that was sent, which source locations refer to.
    pub sent: HashMap<Digest, VertexId>,
}

/// One vertex of a checked definition.
#[derive(Clone, Debug)]
pub struct LoadedVertex {
    /// Digest of the deterministic encoding.
    pub id: VertexId,
    /// What people read.
    pub name: String,
    /// Inputs in order.
    pub inputs: Vec<Edge>,
    /// Number of results.
    pub outputs: u32,
    /// Caching.
    pub cache: CacheOptions,
    /// Steps that are shown as one.
    pub progress_group: Option<ProgressGroup>,
    /// What it does.
    pub payload: Arc<TypedVertex>,
}

impl DecodedDefinition {
    /// Decodes all ops.
    ///
    /// # Errors
    /// When an op is not one, or there are none or too many.
    pub fn decode(definition: pb::Definition) -> Result<Self> {
        if definition.def.is_empty() {
            return Err(Error::Invalid("invalid empty definition".to_owned()));
        }
        if definition.def.len() > MAX_OPS {
            return Err(Error::TooLarge(format!(
                "Definition has {} ops, at most {MAX_OPS} are allowed",
                definition.def.len()
            )));
        }
        let mut ops = Vec::with_capacity(definition.def.len());
        let mut by_digest = HashMap::with_capacity(definition.def.len());
        for bytes in &definition.def {
            if bytes.len() > MAX_OP_SIZE {
                return Err(Error::TooLarge(format!(
                    "Op of a definition has {} bytes, at most {MAX_OP_SIZE} are allowed",
                    bytes.len()
                )));
            }
            let raw = RawOp::decode(bytes).map_err(|error| Error::Wire(Arc::new(error)))?;
            for (at, input) in raw.op().inputs.iter().enumerate() {
                if input.index < 0 {
                    return Err(Error::Invalid(format!("invalid input {at} output index {}", input.index)));
                }
            }
            let sent = Digest::sha256(bytes);
            let canonical = raw.encoded() == bytes;
            by_digest.insert(sent.as_str().to_owned(), ops.len());
            ops.push(DecodedOp { raw, sent, canonical });
        }
        let metadata = definition
            .metadata
            .into_iter()
            .map(pb::definition::MetadataEntry::into_parts)
            .filter(|(digest, _)| by_digest.contains_key(digest))
            .collect();
        Ok(Self { ops, by_digest, metadata })
    }

    /// The source ops by their numbers, with the platforms that they name.
    pub fn sources(&self) -> impl Iterator<Item = (usize, &pb::SourceOp, Option<&pb::Platform>)> {
        self.ops.iter().map(|op| op.raw.op()).enumerate().filter_map(|(at, op)| match &op.op {
            Some(pb::op::Op::Source(source)) => Some((at, source, op.platform.as_ref())),
            _ => None,
        })
    }

    /// Puts another source in the place of a source op.
    ///
    /// # Errors
    /// When the op is not a source.
    pub fn set_source(&mut self, at: usize, source: &pb::SourceOp) -> Result<()> {
        let op = self.ops.get_mut(at).ok_or_else(|| Error::Invalid(format!("Definition has no op {at}")))?;
        op.canonical = false;
        op.raw.set_source(source).map_err(|error| Error::Wire(Arc::new(error)))
    }

    /// Checks everything.
    ///
    /// # Errors
    /// When the definition makes no sense or asks for what is not supported.
    pub fn load(mut self, options: &LoadOptions<'_>) -> Result<Loaded> {
        if options.depth > MAX_DEPTH {
            return Err(Error::TooLarge(format!("Definitions are nested more than {MAX_DEPTH} deep")));
        }
        let edges = self.edges()?;
        let order = self.order(&edges)?;
        let ids = self.rewrite(&order, &edges)?;
        self.check(&order, &edges, ids, options)
    }

    /// For each op the positions of those that it names as inputs.
    fn edges(&self) -> Result<Vec<Vec<usize>>> {
        let find = |input: &pb::Input| {
            self.by_digest.get(&input.digest).copied().ok_or_else(|| {
                let digest: String = input.digest.chars().take(128).collect();
                Error::Invalid(format!("invalid missing input digest {digest}"))
            })
        };
        self.ops.iter().map(|op| op.raw.op().inputs.iter().map(find).collect()).collect()
    }

    /// All ops, each after its inputs.
    fn order(&self, edges: &[Vec<usize>]) -> Result<Vec<usize>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.ops.len()];
        let mut order = Vec::with_capacity(self.ops.len());
        // Ops on the way and how many of their inputs are done.
        let mut stack: Vec<(usize, usize)> = Vec::new();
        for start in 0..self.ops.len() {
            if marks[start] == Mark::New {
                marks[start] = Mark::Open;
                stack.push((start, 0));
            }
            while let Some((at, done)) = stack.last_mut() {
                let Some(&next) = edges[*at].get(*done) else {
                    marks[*at] = Mark::Done;
                    order.push(*at);
                    stack.pop();
                    continue;
                };
                *done += 1;
                match marks[next] {
                    Mark::Done => {}
                    Mark::New => {
                        marks[next] = Mark::Open;
                        stack.push((next, 0));
                    }
                    // Would need a fixed point of SHA-256.
                    Mark::Open => {
                        return Err(Error::Invalid(format!(
                            "invalid definition: {} depends on itself",
                            self.ops[next].sent
                        )));
                    }
                }
            }
        }
        Ok(order)
    }

    /// Computes the ids: inputs first, since they are part of what is hashed.
    fn rewrite(&mut self, order: &[usize], edges: &[Vec<usize>]) -> Result<Vec<Digest>> {
        let mut ids: Vec<Digest> = self.ops.iter().map(|op| op.sent.clone()).collect();
        for &at in order {
            let inputs = &edges[at];
            let unchanged =
                self.ops[at].canonical && inputs.iter().all(|&input| ids[input] == self.ops[input].sent);
            if unchanged {
                continue;
            }
            let raw = &mut self.ops[at].raw;
            raw.set_input_digests(inputs.iter().map(|&input| ids[input].as_str()))
                .map_err(|error| Error::Wire(Arc::new(error)))?;
            ids[at] = raw.digest();
        }
        Ok(ids)
    }

    fn check(
        self,
        order: &[usize],
        edges: &[Vec<usize>],
        ids: Vec<Digest>,
        options: &LoadOptions<'_>,
    ) -> Result<Loaded> {
        let distinct: std::collections::HashSet<&Digest> = ids.iter().collect();
        if distinct.len() < 2 {
            return Err(Error::Invalid(format!("invalid LLB with {} vertexes", distinct.len())));
        }
        let last = self.ops.len() - 1;
        let root_input = self.ops[last].raw.op().inputs.first();
        let (Some(root_input), Some(&root)) = (root_input, edges[last].first()) else {
            return Err(Error::Invalid("invalid LLB with no inputs on last vertex".to_owned()));
        };
        let root_index = output_index(root_input.index)?;

        // Only what the result needs counts; the rest may be anything.
        let mut needed = vec![false; self.ops.len()];
        let mut stack = vec![root];
        while let Some(at) = stack.pop() {
            if !std::mem::replace(&mut needed[at], true) {
                stack.extend(&edges[at]);
            }
        }

        let Self { ops, mut metadata, .. } = self;
        let mut sent = HashMap::with_capacity(ops.len());
        let mut ops: Vec<Option<DecodedOp>> = ops.into_iter().map(Some).collect();
        let mut vertices: Vec<LoadedVertex> = Vec::new();
        let mut by_id: HashMap<Digest, usize> = HashMap::new();
        for &at in order {
            let Some(op) = ops[at].take() else { continue };
            sent.insert(op.sent.clone(), VertexId(ids[at].clone()));
            // Two encodings of one op are one vertex.
            if !needed[at] || by_id.contains_key(&ids[at]) {
                continue;
            }
            let metadata = metadata.remove(op.sent.as_str()).unwrap_or_default();
            let mut inputs = Vec::with_capacity(edges[at].len());
            let mut names = Vec::with_capacity(edges[at].len());
            for (input, &from) in op.raw.op().inputs.iter().zip(&edges[at]) {
                let edge = edge(&vertices, &by_id, &ids[from], output_index(input.index)?)?;
                names.push(vertices[by_id[&ids[from]]].name.as_str());
                inputs.push(edge);
            }
            let vertex = vertex(VertexId(ids[at].clone()), op.raw, metadata, inputs, &names, options)?;
            by_id.insert(ids[at].clone(), vertices.len());
            vertices.push(vertex);
        }
        let root = edge(&vertices, &by_id, &ids[root], root_index)?;
        Ok(Loaded { vertices, root, sent })
    }
}

fn output_index(index: i64) -> Result<u32> {
    u32::try_from(index).map_err(|_| Error::Invalid(format!("invalid output index {index}")))
}

fn edge(vertices: &[LoadedVertex], by_id: &HashMap<Digest, usize>, id: &Digest, output: u32) -> Result<Edge> {
    let vertex = by_id
        .get(id)
        .map(|&at| &vertices[at])
        .ok_or_else(|| Error::Invalid(format!("invalid missing input digest {id}")))?;
    if output >= vertex.outputs {
        return Err(Error::Invalid(format!(
            "invalid output index {output} of {id}, which has {}",
            vertex.outputs
        )));
    }
    Ok(Edge { vertex: vertex.id.clone(), output })
}

fn vertex(
    id: VertexId,
    raw: RawOp,
    metadata: pb::OpMetadata,
    inputs: Vec<Edge>,
    names: &[&str],
    options: &LoadOptions<'_>,
) -> Result<LoadedVertex> {
    if let Some(caps) = options.caps {
        // Sorted, so that of several the same one is named each time.
        for (cap, _) in pb::map::to_map(metadata.caps) {
            caps.supports(&cap)?;
        }
    }
    let op = raw.into_op();
    let platform = op.platform.as_ref().unwrap_or(options.default_platform).normalized();
    let Some(kind) = op.op else {
        return Err(Error::Invalid(format!("invalid op {} of no known kind", id.0)));
    };
    let op = validate(kind, inputs.len())?;
    let resources = match op {
        OpSpec::Exec(_) => metadata.linux_resources,
        _ => None,
    };
    let payload = TypedVertex {
        platform,
        description: pb::map::to_map(metadata.description).into_iter().collect(),
        resources,
        inputs: inputs.len(),
        depth: options.depth,
        op,
    };
    Ok(LoadedVertex {
        name: match payload.custom_name() {
            Some(name) => name.to_owned(),
            None => op_name(&payload.op, names),
        },
        id,
        inputs,
        outputs: payload.op.outputs(),
        cache: CacheOptions {
            ignore: metadata.ignore_cache,
            export: metadata.export_cache.map(|export| export.value),
        },
        progress_group: metadata.progress_group.map(|group| ProgressGroup {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
        payload: Arc::new(payload),
    })
}

impl Loaded {
    /// Decodes and checks a definition in one go.
    ///
    /// # Errors
    /// As [`DecodedDefinition::decode`] and [`DecodedDefinition::load`].
    pub fn new(definition: pb::Definition, options: &LoadOptions<'_>) -> Result<Self> {
        DecodedDefinition::decode(definition)?.load(options)
    }

    /// Ids of the cache mounts of steps that ignore the cache: these mounts start empty. The value
    /// says whether the mount starts from an input.
    pub fn pruned_cache_mounts(&self) -> BTreeMap<String, bool> {
        let mut pruned = BTreeMap::new();
        for vertex in self.vertices.iter().filter(|vertex| vertex.cache.ignore) {
            let OpSpec::Exec(spec) = &vertex.payload.op else { continue };
            for (mount, spec) in spec.op.mounts.iter().zip(&spec.mounts) {
                if spec.kind != pb::MountType::Cache {
                    continue;
                }
                let id = mount.cache_opt.as_ref().map_or("", |cache| cache.id.as_str());
                let id = if id.is_empty() { &mount.dest } else { id };
                pruned.insert(id.to_owned(), spec.input.is_some());
            }
        }
        pruned
    }
}
