//! Which active edges have which keys.

use buildkit_util_cachedigest::Digest;
use foldhash::HashMap;
use smallvec::SmallVec;

use super::types::EdgeId;
use crate::{KeyId, OutputIndex};

/// One of the ways to a key. Edges that have a way in common for each input have a key in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Way {
    /// None for an edge without inputs.
    pub(super) parent: Option<(KeyId, Option<Digest>)>,
    pub(super) input: u32,
    pub(super) digest: Digest,
    pub(super) output: OutputIndex,
}

#[derive(Default)]
pub(super) struct EdgeIndex {
    edges: HashMap<Way, SmallVec<[EdgeId; 1]>>,
    ways: HashMap<EdgeId, SmallVec<[Way; 1]>>,
}

impl EdgeIndex {
    /// Enters an edge under ways to its keys.
    pub(super) fn add(&mut self, edge: EdgeId, ways: impl IntoIterator<Item = Way>) {
        let own = self.ways.entry(edge).or_default();
        for way in ways {
            let edges = self.edges.entry(way.clone()).or_default();
            if !edges.contains(&edge) {
                edges.push(edge);
                own.push(way);
            }
        }
    }

    /// Edges that have one of the ways of each input.
    pub(super) fn common(&self, inputs: &[Vec<Way>]) -> Vec<EdgeId> {
        let mut common: Option<Vec<EdgeId>> = None;
        for ways in inputs {
            let mut edges: Vec<EdgeId> =
                ways.iter().filter_map(|way| self.edges.get(way)).flatten().copied().collect();
            edges.sort();
            edges.dedup();
            common = Some(match common {
                None => edges,
                Some(mut old) => {
                    old.retain(|edge| edges.binary_search(edge).is_ok());
                    old
                }
            });
            if common.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        common.unwrap_or_default()
    }

    /// Takes an edge out; the ways it had.
    pub(super) fn forget(&mut self, edge: EdgeId) -> SmallVec<[Way; 1]> {
        let ways = self.ways.remove(&edge).unwrap_or_default();
        for way in &ways {
            if let Some(edges) = self.edges.get_mut(way) {
                edges.retain(|other| *other != edge);
                if edges.is_empty() {
                    self.edges.remove(way);
                }
            }
        }
        ways
    }
}

impl EdgeIndex {
    /// Whether no edge is entered.
    pub(super) fn is_empty(&self) -> bool {
        self.edges.is_empty() && self.ways.is_empty()
    }
}
