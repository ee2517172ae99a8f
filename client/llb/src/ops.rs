use buildkit_solver_pb::caps;

use crate::constraints::Constraints;
use crate::graph::{Kind, Node, Output};
use crate::{Error, State, scratch};

/// Trees laid over each other, later ones on top, without a copy. Empty trees have no effect; one
/// tree alone is itself. The result inherits from the first.
pub fn merge<'a>(states: impl IntoIterator<Item = &'a State>, mut constraints: Constraints) -> State {
    let states: Vec<&State> = states.into_iter().filter(|state| !state.is_scratch()).collect();
    let Some((first, rest)) = states.split_first() else { return scratch() };
    if rest.is_empty() {
        return (*first).clone();
    }
    let inputs = states.iter().filter_map(|state| state.output.clone()).collect();
    constraints.metadata.add_cap(caps::MERGE_OP);
    first.with_output(Some(Output::first(Node::new(Kind::Merge, inputs, constraints))))
}

/// What must be laid over `lower` to get `upper`.
pub fn diff(lower: &State, upper: &State, mut constraints: Constraints) -> State {
    if lower.is_scratch() {
        return if upper.is_scratch() { scratch() } else { upper.clone() };
    }
    constraints.metadata.add_cap(caps::DIFF_OP);
    let inputs = [lower, upper].iter().filter_map(|state| state.output.clone()).collect();
    let kind = Kind::Diff { lower: true, upper: !upper.is_scratch() };
    lower.with_output(Some(Output::first(Node::new(kind, inputs, constraints))))
}

/// One input of [`passthrough`].
#[derive(Clone, Debug)]
pub struct PassthroughInput {
    state: State,
    is_output: bool,
}

impl PassthroughInput {
    /// A tree that is passed on.
    pub fn output(state: &State) -> Self {
        Self { state: state.clone(), is_output: true }
    }

    /// A tree that must be made before the others are passed on.
    pub fn dependency(state: &State) -> Self {
        Self { state: state.clone(), is_output: false }
    }
}

/// Passes trees on as a step of its own, known by `id`. The states returned are those of the inputs
/// that are outputs, in their order. Empty trees are left out.
pub fn passthrough(
    id: &str,
    inputs: impl IntoIterator<Item = PassthroughInput>,
    mut constraints: Constraints,
) -> Vec<State> {
    constraints.metadata.add_cap(caps::PASSTHROUGH_OP);
    let (mut outputs, mut nodes) = (Vec::new(), Vec::new());
    for input in inputs {
        if let Some(output) = input.state.output {
            if input.is_output {
                outputs.push(nodes.len());
            }
            nodes.push(output);
        }
    }
    let count = outputs.len();
    let kind = if id.is_empty() {
        Kind::Invalid(Error::IncompleteOp { op: "Passthrough", what: "an id" })
    } else {
        Kind::Passthrough { id: id.to_owned(), outputs }
    };
    let node = Node::new(kind, nodes, constraints);
    (0..).take(count).map(|index| State::from_output(Some(Output { node: node.clone(), index }))).collect()
}

impl State {
    /// This tree, once the others are made too. `id` names the step.
    #[must_use]
    pub fn requires<'a>(&self, id: &str, others: impl IntoIterator<Item = &'a State>) -> Self {
        let mut inputs = vec![PassthroughInput::output(self)];
        inputs.extend(others.into_iter().map(PassthroughInput::dependency));
        if inputs.len() == 1 {
            return self.clone();
        }
        match passthrough(id, inputs, Constraints::new()).into_iter().next() {
            Some(state) => self.with_output(state.output),
            None => Self::invalid(Error::IncompleteOp { op: "Passthrough", what: "an output" }),
        }
    }

    /// The tree that the definition in this tree makes. `filename` is where it is; empty is
    /// `buildkit.llb.definition`.
    #[must_use]
    pub fn build(&self, filename: &str, mut constraints: Constraints) -> Self {
        constraints.metadata.add_cap(caps::BUILD_OP_LLB_FILE_NAME);
        let kind = match self.output {
            Some(_) => Kind::Build { filename: filename.to_owned() },
            None => Kind::Invalid(Error::IncompleteOp { op: "Build", what: "a tree" }),
        };
        let inputs = self.output.iter().cloned().collect();
        self.with_output(Some(Output::first(Node::new(kind, inputs, constraints))))
    }
}
