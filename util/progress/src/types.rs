use std::time::SystemTime;

use buildkit_util_cachedigest::Digest;
use bytes::Bytes;

/// State of one step of a build, as of its latest change.
#[derive(Clone, Debug, PartialEq)]
pub struct Vertex {
    /// Id of the step.
    pub digest: Digest,
    /// Ids of the steps that it needs.
    pub inputs: Vec<Digest>,
    /// What people read.
    pub name: String,
    /// When it last started to run.
    pub started: Option<SystemTime>,
    /// When it last ended.
    pub completed: Option<SystemTime>,
    /// Whether its result came from the cache.
    pub cached: bool,
    /// Why it failed; empty when it did not.
    pub error: String,
    /// Steps that are shown as one.
    pub progress_group: Option<ProgressGroup>,
}

/// Steps with the same group id are shown as one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressGroup {
    /// What makes the group.
    pub id: String,
    /// What people read.
    pub name: String,
    /// A weak group yields to others.
    pub weak: bool,
}

/// A span of time of one run of a vertex.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Start of the run.
    pub started: SystemTime,
    /// End of the run, when it has ended.
    pub completed: Option<SystemTime>,
}

/// Progress of a part of a step, such as the transfer of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct VertexStatus {
    /// Id of the part within its step; what people read when `name` is empty.
    pub id: String,
    /// The step.
    pub vertex: Digest,
    /// What people read.
    pub name: String,
    /// Whole size in units of `current`, 0 when unknown.
    pub total: i64,
    /// What is done, mostly bytes.
    pub current: i64,
    /// When this was so.
    pub timestamp: SystemTime,
    /// When the part started.
    pub started: Option<SystemTime>,
    /// When the part ended.
    pub completed: Option<SystemTime>,
}

/// Where a process wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output, number 1 on the wire.
    Stdout,
    /// Standard error, number 2 on the wire.
    Stderr,
}

/// Output of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct VertexLog {
    /// The step.
    pub vertex: Digest,
    /// Which output.
    pub stream: LogStream,
    /// The bytes as written, cut anywhere.
    pub data: Bytes,
    /// When they were written.
    pub timestamp: SystemTime,
}

/// A line and character in a source file; both count from 1, 0 is unset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: i32,
    /// Character.
    pub character: i32,
}

/// A part of a source file, the end included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First position.
    pub start: Position,
    /// Last position.
    pub end: Position,
}

/// A source file that a definition was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceInfo {
    /// Name of the file.
    pub filename: String,
    /// Its content.
    pub data: Bytes,
    /// Language of the content, such as `Dockerfile`.
    pub language: String,
}

/// Something that people should know of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct VertexWarning {
    /// The step.
    pub vertex: Digest,
    /// Urgency; 1 is the highest that frontends use.
    pub level: i32,
    /// One line.
    pub short: Bytes,
    /// More lines.
    pub detail: Vec<Bytes>,
    /// Where to read more.
    pub url: String,
    /// The source file that it is about.
    pub source_info: Option<SourceInfo>,
    /// The parts of the file.
    pub ranges: Vec<Range>,
}

/// One change of a build's progress.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A vertex changed.
    Vertex(Vertex),
    /// A part of a vertex made progress.
    Status(VertexStatus),
    /// A vertex wrote output.
    Log(VertexLog),
    /// A vertex has a warning.
    Warning(VertexWarning),
}

impl Event {
    /// About how many bytes of memory it takes.
    pub(crate) fn size(&self) -> usize {
        let parts = match self {
            Self::Vertex(vertex) => {
                vertex.name.len() + vertex.error.len() + vertex.inputs.len() * size_of::<Digest>()
            }
            Self::Status(status) => status.id.len() + status.name.len(),
            Self::Log(log) => log.data.len(),
            Self::Warning(warning) => {
                let source = warning.source_info.as_ref().map_or(0, |info| info.data.len());
                let detail: usize = warning.detail.iter().map(|line| size_of::<Bytes>() + line.len()).sum();
                warning.short.len() + detail + source + warning.ranges.len() * size_of::<Range>()
            }
        };
        // Each event has a place of the largest kind.
        size_of::<Self>() + parts
    }
}

/// Several changes at once, in the shape of the control API's `StatusResponse`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SolveStatus {
    /// Vertices that changed.
    pub vertexes: Vec<Vertex>,
    /// Parts that made progress.
    pub statuses: Vec<VertexStatus>,
    /// Output.
    pub logs: Vec<VertexLog>,
    /// Warnings.
    pub warnings: Vec<VertexWarning>,
}

impl SolveStatus {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.vertexes.is_empty()
            && self.statuses.is_empty()
            && self.logs.is_empty()
            && self.warnings.is_empty()
    }

    /// Adds one change.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Vertex(vertex) => self.vertexes.push(vertex),
            Event::Status(status) => self.statuses.push(status),
            Event::Log(log) => self.logs.push(log),
            Event::Warning(warning) => self.warnings.push(warning),
        }
    }
}
