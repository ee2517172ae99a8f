use std::collections::BTreeMap;

use buildkit_errdefs::{Classify, Kind};
use buildkit_solver_pb::json::Protobuf;
use buildkit_solver_pb::{Definition, Op, OpMetadata, Source, map};
use buildkit_util_cachedigest::Digest;
use buildkit_util_gojson::{Object, Value};
use prost::Message;

use crate::answer::{Answer, answer};
use crate::describe::{Named, RequestDefinition};

/// The request for the graph that would be built.
pub const CONVERT_LLB: RequestDefinition = RequestDefinition {
    name: "frontend.convertllb",
    version: "0.1.0",
    description: "Convert Dockerfile to LLB",
    opts: Some(&[]),
    metadata: &[Named::new("result.json")],
};

/// An operation of the graph cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Operation {index} of the graph cannot be decoded")]
pub struct MalformedOp {
    /// Which one, from 0.
    pub index: usize,
    /// Why.
    #[source]
    pub source: prost::DecodeError,
}

impl Classify for MalformedOp {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// A graph in a form that people can read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConvertedGraph {
    ops: BTreeMap<String, Op>,
    metadata: BTreeMap<String, OpMetadata>,
    source: Option<Source>,
}

impl ConvertedGraph {
    /// The graph of a definition.
    ///
    /// # Errors
    /// When it has an operation that cannot be decoded.
    pub fn new(definition: &Definition) -> Result<Self, MalformedOp> {
        let ops = definition.def.iter().enumerate().map(|(index, data)| {
            let op = Op::decode(data.as_ref()).map_err(|source| MalformedOp { index, source })?;
            Ok((Digest::sha256(data).to_string(), op))
        });
        Ok(Self {
            ops: ops.collect::<Result<_, _>>()?,
            metadata: map::to_map(definition.metadata.iter().cloned()),
            source: definition.source.clone(),
        })
    }

    /// The answer to [`CONVERT_LLB`].
    pub fn to_answer(&self) -> Answer {
        answer(self, CONVERT_LLB.version)
    }
}

impl Value for ConvertedGraph {
    fn write_json(&self, out: &mut String) {
        Object::new(out)
            .object("def", |ops| {
                for (digest, op) in &self.ops {
                    ops.field(digest, &Protobuf(op));
                }
            })
            .field("metadata", &self.metadata)
            .field("source", &Protobuf(self.source.as_ref().unwrap_or(&Source::default())));
    }
}
