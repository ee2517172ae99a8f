use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::constraints::{Constraints, Metadata};
use crate::exec::ExecSpec;
use crate::file::Bound;
use crate::{Error, Platform};

/// One op of a graph that is being built. Never changes once it is shared.
#[derive(Debug)]
pub(crate) struct Node {
    /// What the op needs, in the order in which it is visited; kinds refer to it by index.
    pub(crate) inputs: Vec<Output>,
    pub(crate) kind: Kind,
    pub(crate) constraints: Constraints,
}

/// One result of an op.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) node: Arc<Node>,
    pub(crate) index: i64,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Source {
        identifier: String,
        attrs: BTreeMap<String, String>,
    },
    Exec(Box<ExecSpec>),
    File(Arc<Bound>),
    Merge,
    /// Whether the lower and the upper side are inputs or empty.
    Diff {
        lower: bool,
        upper: bool,
    },
    Build {
        filename: String,
    },
    /// Outputs are indexes of inputs.
    Passthrough {
        id: String,
        outputs: Vec<usize>,
    },
    /// An op that came from a definition.
    Encoded(Box<EncodedOp>),
    /// No op: stands for an output that is decided later.
    Late(OnceLock<Output>),
    /// What the builder was asked for cannot be done.
    Invalid(Error),
}

/// An op as it is written, with what is said about it.
#[derive(Debug)]
pub(crate) struct EncodedOp {
    pub(crate) digest: String,
    pub(crate) data: Bytes,
    pub(crate) metadata: Metadata,
    pub(crate) platform: Option<Platform>,
}

impl Node {
    pub(crate) fn new(kind: Kind, inputs: Vec<Output>, constraints: Constraints) -> Arc<Self> {
        Arc::new(Self { inputs, kind, constraints })
    }

    /// Adds an input and says where it is; the same output is added once.
    pub(crate) fn add_input(inputs: &mut Vec<Output>, output: &Output) -> usize {
        inputs.iter().position(|known| known.is_same(output)).unwrap_or_else(|| {
            inputs.push(output.clone());
            inputs.len() - 1
        })
    }

    fn take_outputs(&mut self, outputs: &mut Vec<Output>) {
        outputs.append(&mut self.inputs);
        match std::mem::replace(&mut self.kind, Kind::Merge) {
            Kind::File(bound) => Bound::take_outputs(bound, outputs),
            Kind::Late(target) => outputs.extend(target.into_inner()),
            _ => {}
        }
    }

    /// The platform that states on this op's outputs get.
    pub(crate) fn output_platform(&self) -> Option<&Platform> {
        match &self.kind {
            Kind::Source { .. } | Kind::Exec(_) => self.constraints.platform.as_ref(),
            Kind::Encoded(op) => op.platform.as_ref(),
            _ => None,
        }
    }
}

impl Output {
    pub(crate) fn first(node: Arc<Node>) -> Self {
        Self { node, index: 0 }
    }

    /// What a late output stands for; itself if it is none, or is not decided yet.
    pub(crate) fn decided(&self) -> &Self {
        let mut output = self;
        while let Kind::Late(target) = &output.node.kind
            && let Some(target) = target.get()
        {
            output = target;
        }
        output
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node) && self.index == other.index
    }
}

impl Drop for Node {
    /// Long chains are freed in a loop, not by recursion.
    fn drop(&mut self) {
        let mut unused = Vec::new();
        self.take_outputs(&mut unused);
        while let Some(output) = unused.pop() {
            if let Some(mut node) = Arc::into_inner(output.node) {
                node.take_outputs(&mut unused);
            }
        }
    }
}
