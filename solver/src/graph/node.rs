use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use foldhash::HashMap;
use smallvec::SmallVec;

use super::types::{ActionId, EdgeId, Failure, JobKey, Level, MapInfo, OutputId, RequestId};
use crate::{ExportableKey, KeyDep, KeyId, OutputIndex, Record, ResultId, VertexId};

/// A piece of work of a node and what came of it.
pub(crate) enum Work<T> {
    Idle,
    Running(ActionId),
    /// Nobody wants it; it can start again when it has ended.
    Cancelling(ActionId),
    Done(T),
    Failed(Failure),
}

impl<T> Work<T> {
    pub(crate) fn action(&self) -> Option<ActionId> {
        match self {
            Self::Running(action) | Self::Cancelling(action) => Some(*action),
            _ => None,
        }
    }

    pub(crate) fn done(&self) -> Option<&T> {
        match self {
            Self::Done(value) => Some(value),
            _ => None,
        }
    }
}

/// What [`super::Graph`] knows of a vertex.
pub(crate) struct Node {
    pub(crate) generation: u32,
    pub(crate) vertex: VertexId,
    pub(crate) ignore: bool,
    pub(crate) export: Option<bool>,
    /// Place in an order in which inputs and merge targets stand before a node.
    pub(crate) rank: u32,
    /// Expected seconds until the last consumer is done.
    pub(crate) remaining: f32,
    pub(crate) inputs: Box<[EdgeId]>,
    pub(crate) jobs: SmallVec<[JobKey; 2]>,
    /// Cache maps so far; a node with inputs has one at most.
    pub(crate) maps: SmallVec<[Arc<MapInfo>; 1]>,
    /// The work on the next map. Never `Done`: that is in `maps`.
    pub(crate) mapping: Work<()>,
    /// Per input: preparation and content digest.
    pub(crate) contents: Box<[Work<Option<Digest>>]>,
    pub(crate) exec: Work<Vec<OutputId>>,
    pub(crate) edges: SmallVec<[Box<EdgeNode>; 1]>,
    /// In the list of nodes whose work is to be started or stopped.
    pub(crate) listed: bool,
    /// Inputs whose preparation may have to start or stop.
    pub(crate) steer: Vec<u32>,
}

impl Node {
    pub(crate) fn maps_done(&self) -> bool {
        self.maps.last().is_some_and(|map| map.done)
    }

    pub(crate) fn edge(&self, output: OutputIndex) -> Option<&EdgeNode> {
        let at = self.edges.binary_search_by_key(&output, |edge| edge.output).ok()?;
        self.edges.get(at).map(|edge| &**edge)
    }

    pub(crate) fn edge_mut(&mut self, output: OutputIndex) -> Option<&mut EdgeNode> {
        let at = self.edges.binary_search_by_key(&output, |edge| edge.output).ok()?;
        self.edges.get_mut(at).map(|edge| &mut **edge)
    }

    /// Actions that have not ended yet.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = ActionId> + '_ {
        let edges = self.edges.iter().filter_map(|edge| edge.state.action());
        let own = self.mapping.action().into_iter().chain(self.exec.action());
        own.chain(self.contents.iter().filter_map(Work::action)).chain(edges)
    }
}

/// A record that is being loaded.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) action: ActionId,
    /// Place of its key in `keys`.
    pub(crate) key: usize,
    pub(crate) record: Record,
}

/// Where an edge stands.
pub(crate) enum EdgeState {
    /// Looking for keys and, where nothing is found, getting ready to run.
    Searching,
    /// Loading a record.
    Loading(Box<Load>),
    /// As `Loading`, but nobody wants it; goes on when that has ended.
    StopLoading(Box<Load>),
    /// The op ran; the result is being saved under these keys.
    Saving(ActionId, OutputId, Vec<crate::graph::SaveKey>),
    /// There is a result. `own` when it was loaded and so is no output of the node's run.
    Done {
        output: OutputId,
        keys: Vec<ExportableKey>,
        own: bool,
    },
    Failed(Failure),
    /// Another edge has the same key and took over.
    Merged(EdgeId),
}

impl EdgeState {
    /// Whether news cannot change it any more.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed(_) | Self::Merged(_))
    }

    fn action(&self) -> Option<ActionId> {
        match self {
            Self::Loading(load) | Self::StopLoading(load) => Some(load.action),
            Self::Saving(action, ..) => Some(*action),
            _ => None,
        }
    }
}

/// What an edge needs of its node and store now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Need {
    #[default]
    Nothing,
    Map,
    Load,
    Exec,
}

/// One output of a node.
pub(crate) struct EdgeNode {
    pub(crate) output: OutputIndex,
    /// When its key was first known, 0 before.
    pub(crate) age: u64,
    pub(crate) state: EdgeState,
    pub(crate) level: Level,
    /// Numbers of consumers and requests that want each level.
    pub(crate) wants: [u32; 4],
    pub(crate) requests: SmallVec<[RequestId; 1]>,
    /// Who is told of changes; those that are gone are dropped when found.
    pub(crate) consumers: SmallVec<[(EdgeId, u32); 1]>,
    /// Keys that consumers may match through.
    pub(crate) keys: SmallVec<[ExportableKey; 1]>,
    /// Records of the keys, with the key's place.
    pub(crate) records: Vec<(usize, Record)>,
    pub(crate) tried: Vec<ResultId>,
    pub(crate) deps: Box<[Dep]>,
    /// Parents of edges that merged into this one, by input.
    pub(crate) extra: Vec<(u32, KeyDep)>,
    /// Questions to the store that are open.
    pub(crate) asking: u32,
    /// Number of cache maps that were looked at.
    pub(crate) maps_seen: usize,
    /// Inputs that may have changed since the last update.
    pub(crate) news: SmallVec<[u32; 2]>,
    /// Inputs whose wishes may have changed since the last plan.
    pub(crate) stale: SmallVec<[u32; 2]>,
    pub(crate) counts: Counts,
    pub(crate) mode: Mode,
    /// Inputs of which something is wanted.
    pub(crate) wishing: u32,
    /// With many inputs: how many of them lead to a key.
    pub(crate) hits: Option<Box<HashMap<KeyId, u32>>>,
    pub(crate) need: Need,
    pub(crate) queued: [bool; 3],
}

impl EdgeNode {
    pub(crate) fn new(output: OutputIndex, inputs: &[EdgeId]) -> Self {
        Self {
            output,
            age: 0,
            state: EdgeState::Searching,
            level: Level::Nothing,
            wants: [0; 4],
            requests: SmallVec::new(),
            consumers: SmallVec::new(),
            keys: SmallVec::new(),
            records: Vec::new(),
            tried: Vec::new(),
            deps: inputs.iter().map(|input| Dep::new(*input)).collect(),
            extra: Vec::new(),
            asking: 0,
            maps_seen: 0,
            news: SmallVec::new(),
            stale: SmallVec::new(),
            counts: Counts::new(inputs.len() as u32),
            mode: Mode::Rest,
            wishing: 0,
            hits: None,
            need: Need::Nothing,
            queued: [false; 3],
        }
    }

    /// The highest level that somebody wants.
    pub(crate) fn wanted(&self) -> Level {
        [Level::Complete, Level::Slow, Level::Fast]
            .into_iter()
            .find(|level| self.wants.get(*level as usize).is_some_and(|count| *count > 0))
            .unwrap_or_default()
    }
}

/// An input as the ladder sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) level: Level,
    /// Some key of it leads to a key in the store.
    pub(crate) matched: bool,
    /// All keys it can ever give are known.
    pub(crate) exhausted: bool,
    /// Has a content function that was not used yet.
    pub(crate) open_content: bool,
    /// Has a preparation or content function that did not run yet.
    pub(crate) open_work: bool,
    /// Has a key of any sort.
    pub(crate) keyed: bool,
}

/// Over how many inputs something holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) below_fast: u32,
    pub(crate) below_slow: u32,
    pub(crate) unmatched: u32,
    pub(crate) unmatched_below_slow: u32,
    /// Known to have no key here, although the consumer could still match through others.
    pub(crate) missed: u32,
    /// Cannot match any more.
    pub(crate) dead: u32,
    /// May still give keys.
    pub(crate) open: u32,
    /// Not ready for a run.
    pub(crate) unready: u32,
    pub(crate) keyless: u32,
}

impl Counts {
    fn new(inputs: u32) -> Self {
        let mut counts = Self::default();
        let blank = Self::of(View::default());
        for (slot, one) in counts.slots().into_iter().zip(blank) {
            *slot = inputs * u32::from(one);
        }
        counts
    }

    fn of(view: View) -> [bool; 9] {
        [
            view.level < Level::Fast,
            view.level < Level::Slow,
            !view.matched,
            !view.matched && view.level < Level::Slow,
            !view.matched && view.level >= Level::Fast,
            !view.matched && view.exhausted,
            !view.exhausted,
            view.level < Level::Complete || view.open_work,
            !view.keyed,
        ]
    }

    fn slots(&mut self) -> [&mut u32; 9] {
        [
            &mut self.below_fast,
            &mut self.below_slow,
            &mut self.unmatched,
            &mut self.unmatched_below_slow,
            &mut self.missed,
            &mut self.dead,
            &mut self.open,
            &mut self.unready,
            &mut self.keyless,
        ]
    }

    pub(crate) fn change(&mut self, old: View, new: View) {
        for ((slot, old), new) in self.slots().into_iter().zip(Self::of(old)).zip(Self::of(new)) {
            *slot = *slot - u32::from(old) + u32::from(new);
        }
    }
}

/// What an edge is after. Together with a [`View`] it decides what is wanted of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing of its inputs.
    #[default]
    Rest,
    /// The first keys, while the cache map is made.
    Begin,
    /// Keys.
    Climb {
        /// Only keys are wanted, not the result.
        keys_only: bool,
        below_fast: bool,
        below_slow: bool,
        unmatched: bool,
        unmatched_below_slow: bool,
    },
    /// All results.
    Run,
}

/// How far the content of an input has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Open,
    Done,
}

/// An input as one edge sees it.
pub(crate) struct Dep {
    /// The edge whose keys were seen; after a merge it is another one.
    pub(crate) target: EdgeId,
    /// What this edge wants of it now.
    pub(crate) want: Level,
    /// Whether the target knows us as consumer.
    pub(crate) told: bool,
    pub(crate) keys_seen: usize,
    /// Whether the keys of the target's result were seen.
    pub(crate) done_seen: bool,
    pub(crate) content: Probe,
    /// Keys in the store that the input leads to, sorted.
    pub(crate) matches: SmallVec<[KeyId; 1]>,
    /// Wants preparation or content digest.
    pub(crate) need: bool,
    /// As last counted.
    pub(crate) view: View,
}

impl Dep {
    fn new(target: EdgeId) -> Self {
        Self {
            target,
            want: Level::Nothing,
            told: false,
            keys_seen: 0,
            done_seen: false,
            content: Probe::Open,
            matches: SmallVec::new(),
            need: false,
            view: View::default(),
        }
    }
}
