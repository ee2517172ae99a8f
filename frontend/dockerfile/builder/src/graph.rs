//! Looking things up in a graph that was solved.

use std::collections::{HashMap, HashSet};

use buildkit_solver_errdefs::{ParsedDetail, Subject, parse};
use buildkit_solver_pb::{Definition, Input, Op, SourceOp, attr, map, op};
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use prost::Message as _;

const CUSTOM_NAME: &str = "llb.customname";
const LOCAL: &str = "local://";
const IMAGE: &str = "docker-image://";

/// A definition whose operations can be found by digest.
pub(crate) struct Graph<'a> {
    definition: &'a Definition,
    ops: HashMap<String, Op>,
}

/// An input whose content a step could not use.
pub(crate) struct FailedInput<'a> {
    graph: &'a Graph<'a>,
    input: Input,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(definition: &'a Definition) -> Self {
        let ops = definition.def.iter().filter_map(|data| {
            let op = Op::decode(data.as_ref()).ok()?;
            Some((Digest::sha256(data).to_string(), op))
        });
        Self { definition, ops: ops.collect() }
    }

    /// The input that an error is about, if it is one of the content of inputs.
    pub(crate) fn failed_input(&'a self, error: &RemoteError) -> Option<FailedInput<'a>> {
        let (mut vertex, mut index) = (None, None);
        for detail in error.details.iter().filter_map(parse) {
            match detail {
                ParsedDetail::Vertex(digest) => vertex = vertex.or(Some(digest)),
                ParsedDetail::Solve { subject: Some(Subject::Cache(at)), .. } => index = Some(at),
                _ => {}
            }
        }
        let op = self.ops.get(&vertex?)?;
        let input = op.inputs.get(usize::try_from(index?).ok()?)?.clone();
        Some(FailedInput { graph: self, input })
    }

    /// Operations that one needs, with itself.
    fn needed(&self, start: &str) -> HashSet<&str> {
        let mut needed = HashSet::new();
        let mut next = vec![start];
        while let Some(digest) = next.pop() {
            if let Some((digest, op)) = self.ops.get_key_value(digest)
                && needed.insert(digest.as_str())
            {
                next.extend(op.inputs.iter().map(|input| input.digest.as_str()));
            }
        }
        needed
    }
}

impl FailedInput<'_> {
    fn source(&self) -> Option<&SourceOp> {
        match self.graph.ops.get(&self.input.digest)?.op.as_ref()? {
            op::Op::Source(source) => Some(source),
            _ => None,
        }
    }

    /// Name of the user's directory that the input is, and whether something of it is left out.
    pub(crate) fn directory(&self) -> Option<(&str, bool)> {
        let source = self.source()?;
        let attrs = map::to_map(source.attrs.iter().cloned());
        let leaves_out = attrs.get(attr::EXCLUDE_PATTERNS).is_some_and(|list| list != "[]");
        Some((source.identifier.strip_prefix(LOCAL)?, leaves_out))
    }

    /// What people call the input: a directory, an image, or a stage. One word.
    pub(crate) fn name(&self) -> String {
        let name = match self.source() {
            Some(source) => match source.identifier.split_once("://") {
                _ if source.identifier.starts_with(LOCAL) => source.identifier[LOCAL.len()..].to_owned(),
                _ if source.identifier.starts_with(IMAGE) => {
                    let name = &source.identifier[IMAGE.len()..];
                    name.split_once('@').map_or(name, |(name, _)| name).to_owned()
                }
                // Addresses may have passwords in them.
                scheme => scheme.map_or("source", |(scheme, _)| scheme).to_owned(),
            },
            None => self.stage().unwrap_or_else(|| "stage".to_owned()),
        };
        let is_word = |c: char| c.is_ascii_graphic() && c != '"';
        name.chars().map(|c| if is_word(c) { c } else { '-' }).collect()
    }

    /// The stage whose step the input is: `[PLATFORM STAGE N/M] TEXT` is how steps are called.
    fn stage(&self) -> Option<String> {
        let metadata = map::get(&self.graph.definition.metadata, &self.input.digest)?;
        let name = map::get(&metadata.description, CUSTOM_NAME)?;
        let (before_count, _) = name.strip_prefix('[')?.split_once(']')?.0.rsplit_once(' ')?;
        before_count.split_whitespace().last().filter(|word| !word.contains('/')).map(str::to_owned)
    }

    /// The graph of the input alone.
    pub(crate) fn definition(&self) -> Definition {
        let needed = self.graph.needed(&self.input.digest);
        let mut part = self.graph.definition.clone();
        part.def.retain(|data| needed.contains(Digest::sha256(data).as_str()));
        let head = Op { inputs: vec![self.input.clone()], ..Op::default() };
        part.def.push(head.encode_to_vec().into());
        part
    }
}
