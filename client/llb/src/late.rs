use std::sync::{Arc, OnceLock};

use crate::State;
use crate::constraints::Constraints;
use crate::graph::{Kind, Node, Output};

/// A tree that is decided after states have been built upon it.
///
/// A builder that finds out only at the end which files of a directory its steps use gives them the
/// [`state`](Self::state) of a late tree, and sets it when it knows.
#[derive(Clone, Debug)]
pub struct Late {
    node: Arc<Node>,
}

impl Default for Late {
    fn default() -> Self {
        Self::new()
    }
}

impl Late {
    /// A tree that is not decided yet.
    pub fn new() -> Self {
        Self { node: Node::new(Kind::Late(OnceLock::new()), Vec::new(), Constraints::new()) }
    }

    /// The tree. Marshalling what needs it fails until it is set.
    pub fn state(&self) -> State {
        State::from_output(Some(Output::first(self.node.clone())))
    }

    /// Decides. The first call counts; the empty tree and a state that needs this one are not taken. Says
    /// whether the tree is now that of `state`.
    pub fn set(&self, state: &State) -> bool {
        let Some(output) = state.output.as_ref().map(Output::decided) else { return false };
        let Kind::Late(target) = &self.node.kind else { return false };
        !self.is_needed_by(output) && target.set(output.clone()).is_ok()
    }

    /// A tree that needed itself would never be written, nor freed.
    fn is_needed_by(&self, output: &Output) -> bool {
        let mut seen = std::collections::HashSet::new();
        let mut next = vec![output.decided()];
        while let Some(output) = next.pop() {
            if Arc::ptr_eq(&output.node, &self.node) {
                return true;
            }
            if seen.insert(Arc::as_ptr(&output.node)) {
                next.extend(output.node.inputs.iter().map(Output::decided));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MarshalOptions, Mount, copy, local, scratch};

    #[test]
    fn a_late_tree_is_written_as_what_it_stands_for() {
        let options = MarshalOptions::new();
        let build = |context: &State| {
            let copied = scratch().file(copy(context, "/a", "/"));
            copied.run().args(["x"]).mount("/src", Mount::bind(context).readonly()).root()
        };
        let late = Late::new();
        let state = build(&late.state());
        assert!(state.marshal(&options).is_err());
        let context = local("context").session_id("s").follow(["a"]).state();
        assert!(!late.set(&scratch()));
        assert!(!late.set(&state));
        assert!(late.set(&context));
        assert!(!late.set(&local("other").state()));
        assert_eq!(state.marshal(&options).unwrap(), build(&context).marshal(&options).unwrap());
        assert_eq!(late.state().marshal(&options).unwrap(), context.marshal(&options).unwrap());
    }
}
