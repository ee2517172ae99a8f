/// Where the root file system of a process is mounted.
pub const ROOT_MOUNT: &str = "/";

/// As an output index: what was written is not a result.
pub const SKIP_OUTPUT: i64 = -1;

/// As an input index: an empty tree.
pub const EMPTY_INPUT: i64 = -1;

/// As the builder of a build op: the daemon reads the LLB itself.
pub const LLB_BUILDER: i64 = -1;

/// Name of the build op's input that holds the LLB.
pub const LLB_DEFINITION_INPUT: &str = "buildkit.llb.definition";

/// File of that input that is read when no attribute names another.
pub const LLB_DEFAULT_DEFINITION_FILE: &str = LLB_DEFINITION_INPUT;
