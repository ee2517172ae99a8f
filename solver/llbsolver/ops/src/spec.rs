use std::sync::LazyLock;

use buildkit_solver_pb as pb;
use pb::file_action::Action;

/// A vertex after validation: every count, index, enum value and path that ops rely on holds.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedVertex {
    /// What it does.
    pub op: OpSpec,
    /// Platform it runs for, normalised; the daemon's default when none was given.
    pub platform: pb::Platform,
    /// Descriptions by key, such as `llb.customname`.
    pub description: Vec<(String, String)>,
    /// Limits of its containers. Not in the digest: builds that share the vertex merge them.
    pub resources: Option<pb::LinuxResources>,
    /// Number of inputs.
    pub inputs: usize,
    /// How deep the definition that it comes from is nested in others.
    pub depth: u32,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum OpSpec {
    /// Gets something from outside.
    Source(SourceSpec),
    /// Runs a process.
    Exec(Box<ExecSpec>),
    /// Changes files.
    File(FileSpec),
    /// Runs LLB that an input holds.
    Build(BuildSpec),
    /// Lays its inputs over each other, the first lowest.
    Merge(pb::MergeOp),
    /// What one input adds to another.
    Diff(DiffSpec),
    /// Hands on its inputs.
    Passthrough(PassthroughSpec),
}

/// A source op.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// As on the wire.
    pub op: pb::SourceOp,
    /// The part of the identifier before `://`.
    pub scheme: String,
    /// The part after it.
    pub reference: String,
}

/// An exec op.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecSpec {
    /// As on the wire; `meta` is there.
    pub op: pb::ExecOp,
    /// What is checked of each mount, in the order of the op's.
    pub mounts: Vec<MountSpec>,
    /// Number of results.
    pub outputs: u32,
}

impl ExecSpec {
    /// The process.
    pub fn meta(&self) -> &pb::Meta {
        static EMPTY: LazyLock<pb::Meta> = LazyLock::new(pb::Meta::default);
        self.op.meta.as_ref().unwrap_or(&EMPTY)
    }
}

/// A mount of an exec op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// What it is.
    pub kind: pb::MountType,
    /// How a cache mount is shared.
    pub sharing: pb::CacheSharingOpt,
    /// The input that it shows; `None` is an empty tree.
    pub input: Option<usize>,
    /// The result that it becomes.
    pub output: Option<u32>,
    /// Whether the input may be matched by the content that the mount shows.
    pub by_content: bool,
}

/// Where a file action gets a tree from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileInput {
    /// An empty tree.
    Scratch,
    /// An input of the op.
    Input(usize),
    /// What another action of the op made.
    Action(usize),
}

/// A file op.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSpec {
    /// The actions.
    pub actions: Vec<FileActionSpec>,
    /// Indexes of the actions, each after those whose trees it needs.
    pub order: Vec<usize>,
    /// The action that makes each result.
    pub outputs: Vec<usize>,
}

/// One action of a file op.
#[derive(Clone, Debug, PartialEq)]
pub struct FileActionSpec {
    /// The tree that it changes.
    pub input: FileInput,
    /// The tree that it copies from.
    pub secondary: FileInput,
    /// Indexes as on the wire: input, secondary input and output.
    pub indexes: [i64; 3],
    /// What it does.
    pub action: Action,
}

/// A build op.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildSpec {
    /// As on the wire.
    pub op: pb::BuildOp,
    /// The input that holds the LLB.
    pub definition: usize,
    /// The file that holds it there.
    pub filename: String,
}

/// A diff op.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffSpec {
    /// As on the wire.
    pub op: pb::DiffOp,
    /// The input that is taken away; `None` is an empty tree.
    pub lower: Option<usize>,
    /// The input that it is taken away from; `None` is an empty tree.
    pub upper: Option<usize>,
}

/// A passthrough op.
#[derive(Clone, Debug, PartialEq)]
pub struct PassthroughSpec {
    /// As on the wire.
    pub op: pb::PassthroughOp,
    /// The input that each result is.
    pub outputs: Vec<usize>,
}

impl OpSpec {
    /// Kind of the op in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Exec(_) => "exec",
            Self::File(_) => "file",
            Self::Build(_) => "build",
            Self::Merge(_) => "merge",
            Self::Diff(_) => "diff",
            Self::Passthrough(_) => "passthrough",
        }
    }

    /// Number of results.
    pub fn outputs(&self) -> u32 {
        match self {
            Self::Source(_) | Self::Build(_) | Self::Merge(_) | Self::Diff(_) => 1,
            Self::Exec(spec) => spec.outputs,
            // Both are bounded by the size of a message.
            Self::File(spec) => u32::try_from(spec.outputs.len()).unwrap_or(u32::MAX),
            Self::Passthrough(spec) => u32::try_from(spec.outputs.len()).unwrap_or(u32::MAX),
        }
    }

    /// The op in its wire form.
    pub fn to_pb(&self) -> pb::op::Op {
        use pb::op::Op;
        match self {
            Self::Source(spec) => Op::Source(spec.op.clone()),
            Self::Exec(spec) => Op::Exec(spec.op.clone()),
            Self::File(spec) => Op::File(pb::FileOp {
                actions: spec
                    .actions
                    .iter()
                    .map(|action| pb::FileAction {
                        input: action.indexes[0],
                        secondary_input: action.indexes[1],
                        output: action.indexes[2],
                        action: Some(action.action.clone()),
                    })
                    .collect(),
            }),
            Self::Build(spec) => Op::Build(spec.op.clone()),
            Self::Merge(op) => Op::Merge(op.clone()),
            Self::Diff(spec) => Op::Diff(spec.op),
            Self::Passthrough(spec) => Op::Passthrough(spec.op.clone()),
        }
    }
}

impl TypedVertex {
    /// The name that people gave the step, if any.
    pub fn custom_name(&self) -> Option<&str> {
        self.description.iter().find(|(key, _)| key == "llb.customname").map(|(_, value)| value.as_str())
    }
}
