//! An oracle for the order of effort: what the store had that makes further effort needless.

use std::collections::{BTreeSet, HashSet};

use buildkit_solver::{KeyId, KeySource as _, LinkQuery, MemoryKeyStore, OutputIndex, Parent, root_key};

use crate::sim::value_of;
use crate::{Failing, Program, digest};

/// What a store knows of the edges of a program, found from the contract's text alone.
pub(crate) struct Ladder<'a> {
    pub(crate) program: &'a Program,
    pub(crate) keys: &'a MemoryKeyStore,
    /// Vertices that ignore the cache in this build.
    pub(crate) ignoring: &'a HashSet<usize>,
}

/// Whether the oracle speaks for a program. Ops that fail end a search early, and edges with several
/// maps are known by those that were asked for, which depends on who asked first.
pub(crate) fn covers(program: &Program) -> bool {
    program.kinds.iter().all(|(op, _)| op.failing == Failing::No && op.maps.len() == 1)
}

impl Ladder<'_> {
    /// Keys that follow from definitions: no result is needed to know them.
    fn definition_keys(&self, place: usize, output: OutputIndex) -> BTreeSet<KeyId> {
        let (op, vertex) = (self.program.op(place), &self.program.vertices[place]);
        if self.ignoring.contains(&place) {
            return BTreeSet::new();
        }
        if vertex.inputs.is_empty() {
            let keys = op.maps.iter().map(|map| root_key(&digest(map), Some(output)));
            return keys.filter(|key| self.keys.exists(key).unwrap_or_default()).collect();
        }
        self.linked(place, output, |input, (below, output)| self.parents(place, input, below, output))
    }

    fn parents(&self, place: usize, input: usize, below: usize, output: OutputIndex) -> Vec<Parent> {
        let selector = self.program.op(place).selectors.get(&input).map(digest);
        let keys = self.definition_keys(below, output).into_iter();
        keys.map(|key| Parent { key, selector: selector.clone() }).collect()
    }

    /// Keys that all inputs lead to.
    fn linked(
        &self,
        place: usize,
        output: OutputIndex,
        parents: impl Fn(usize, (usize, OutputIndex)) -> Vec<Parent>,
    ) -> BTreeSet<KeyId> {
        let (op, vertex) = (self.program.op(place), &self.program.vertices[place]);
        let mut common: Option<BTreeSet<KeyId>> = None;
        for (input, below) in vertex.inputs.iter().enumerate() {
            let query = LinkQuery {
                input: input as u32,
                digest: digest(&op.maps[0]),
                output,
                parents: parents(input, *below),
            };
            let found = self.keys.query(&[query]).unwrap_or_default();
            let found: BTreeSet<KeyId> = found.into_iter().flatten().flatten().collect();
            common = Some(match common {
                Some(old) => old.intersection(&found).cloned().collect(),
                None => found,
            });
        }
        common.unwrap_or_default()
    }

    fn has_record(&self, keys: &BTreeSet<KeyId>) -> bool {
        keys.iter().any(|key| !self.keys.records(key).unwrap_or_default().is_empty())
    }

    /// Edges of which a record is found without the result of any vertex.
    pub(crate) fn found_by_definition(&self) -> HashSet<(usize, OutputIndex)> {
        let places = 0..self.program.vertices.len();
        let edges = places
            .flat_map(|place| (0..self.program.op(place).outputs.max(1)).map(move |output| (place, output)));
        edges.filter(|(place, output)| self.has_record(&self.definition_keys(*place, *output))).collect()
    }

    /// Whether a record is found once all inputs have results.
    pub(crate) fn found_with_inputs(&self, place: usize, output: OutputIndex) -> bool {
        if self.ignoring.contains(&place) {
            return false;
        }
        let op = self.program.op(place);
        if self.program.vertices[place].inputs.is_empty() {
            return self.has_record(&self.definition_keys(place, output));
        }
        self.has_record(&self.linked(place, output, |input, (below, output)| {
            let mut parents = self.parents(place, input, below, output);
            if op.content.contains(&input) {
                let content = value_of(self.program, below, output).content;
                parents.push(Parent { key: root_key(&content, None), selector: None });
            }
            parents
        }))
    }
}
