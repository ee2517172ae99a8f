use std::sync::Arc;

use buildkit_errdefs::Classify;
use buildkit_util_cachedigest::Digest;

use crate::{ExportableKey, KeyId, LinkQuery, OutputIndex, Record, ResultId, VertexId};

/// A node of the graph: a vertex that some jobs want. The generation tells a node from an earlier
/// one at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// An output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId {
    /// The node.
    pub node: NodeId,
    /// Which output.
    pub output: OutputIndex,
}

/// A build that wants vertices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(pub u64);

/// A wish for one edge's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Work that the graph gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub u64);

/// A result that the driver keeps for the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputId(pub u64);

/// Why an edge has no result; all its consumers share it.
pub type Failure = Arc<dyn Classify + Send + Sync>;

/// How much is known, or wanted, of an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing.
    #[default]
    Nothing,
    /// All keys that follow from definitions.
    Fast,
    /// Also the keys that need the content of the edge's inputs.
    Slow,
    /// The result.
    Complete,
}

/// A vertex to be loaded.
#[derive(Clone, Debug)]
pub struct LoadVertex {
    /// Its id.
    pub id: VertexId,
    /// Inputs as (position in the load, output).
    pub inputs: Vec<(u32, OutputIndex)>,
    /// Runs although there is a result.
    pub ignore_cache: bool,
    /// Whether its records are exported.
    pub export: Option<bool>,
    /// Expected duration in seconds.
    pub cost: f32,
}

/// A cache map without its functions.
#[derive(Clone, Debug)]
pub struct MapInfo {
    /// Digest of the op.
    pub digest: Digest,
    /// One per input.
    pub deps: Vec<DepInfo>,
    /// Whether there are no more maps.
    pub done: bool,
    /// What the digest was made of.
    pub preimage: Option<Arc<str>>,
}

/// How an input takes part in the key.
#[derive(Clone, Debug, Default)]
pub struct DepInfo {
    /// What the op uses of the input, when not all.
    pub selector: Option<Digest>,
    /// Whether there is a content function.
    pub content: bool,
    /// Whether there is a preparation.
    pub prepare: bool,
}

/// What happened outside.
pub enum Event {
    /// A job wants an edge: its vertices in topological order, and the edge.
    Build {
        /// The job.
        job: JobKey,
        /// Names the wish in the answer.
        request: RequestId,
        /// The vertices.
        vertices: Vec<LoadVertex>,
        /// Position of the vertex and output that are wanted.
        target: (u32, OutputIndex),
    },
    /// Nobody waits for a request any more.
    Withdraw(RequestId),
    /// A job ended; nodes that only it wanted end with it.
    JobGone(JobKey),
    /// A cache map is there.
    Mapped(ActionId, Result<MapInfo, Failure>),
    /// An input was prepared, and its content digest made if asked for and possible.
    Digested(ActionId, Result<Option<Digest>, Failure>),
    /// A record was loaded; nothing when it cannot be.
    Fetched(ActionId, Option<OutputId>),
    /// An op ran.
    Executed(ActionId, Result<Vec<OutputId>, Failure>),
    /// A result was saved under these keys, in the order of [`Action::Save`].
    Saved(ActionId, Vec<KeyId>),
    /// Work that was to be cancelled has ended without a result.
    Cancelled(ActionId),
    /// Answers to all questions of the last step, in order.
    Answered(Vec<Answer>),
}

/// A question to the key store. Nothing else happens until it is answered.
#[derive(Debug)]
pub enum Question {
    /// Which keys do these parents lead to?
    Links(LinkQuery),
    /// Does this key exist, and which records has it that can be loaded?
    Key(KeyId),
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Answer {
    /// Keys for each parent.
    Links(Vec<Vec<KeyId>>),
    /// Whether the key exists, and its records.
    Key(bool, Vec<Record>),
}

/// Parents of a key to be saved.
#[derive(Clone, Debug)]
pub struct SaveKey {
    /// The digest of the cache map.
    pub digest: Digest,
    /// The output.
    pub output: OutputIndex,
    /// Per input all parents.
    pub deps: Vec<Vec<crate::KeyDep>>,
    /// What the digest was made of.
    pub preimage: Option<Arc<str>>,
}

/// A finished edge, as given to those who asked.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The result.
    pub output: OutputId,
    /// Its keys.
    pub keys: Vec<ExportableKey>,
}

/// What the outside shall do, in order.
pub enum Action {
    /// The vertices of a build are these nodes; new ones among them start to exist.
    Loaded(RequestId, Vec<NodeId>),
    /// A job wants a node from now on.
    Joined(NodeId, JobKey),
    /// A job wants a node no more.
    Left(NodeId, JobKey),
    /// A node ended; no action on it is outstanding.
    Removed(NodeId),
    /// An edge was taken over by another one.
    Merged(EdgeId, EdgeId),
    /// An edge has its result from a record.
    Hit(EdgeId),
    /// Make the cache map of this number.
    Map(ActionId, NodeId, usize),
    /// Prepare an input (first flag), then digest its content (second flag).
    Digest(ActionId, NodeId, usize, OutputId, [bool; 2]),
    /// Load a record.
    Fetch(ActionId, EdgeId, ResultId),
    /// Run the op; the last field is the expected time in seconds until the last one that waits for
    /// it could be done.
    Execute(ActionId, NodeId, Vec<OutputId>, f32),
    /// Save a result.
    Save(ActionId, EdgeId, Vec<SaveKey>, OutputId),
    /// Let parents lead to a key that was found by another way.
    Link(LinkQuery, KeyId),
    /// Stop; [`Event::Cancelled`] or the result follows.
    Cancel(ActionId),
    /// Answer a request.
    Respond(RequestId, Result<Finished, Failure>),
    /// Nobody uses a result any more.
    Release(OutputId),
    /// Ask the store, for these nodes; the answers are to come as one [`Event::Answered`] before anything else.
    Ask(Vec<(NodeId, Question)>),
}
