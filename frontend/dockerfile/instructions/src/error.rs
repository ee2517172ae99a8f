use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend_dockerfile_shell as shell;
use buildkit_util_gotext::{CsvError, DurationError, quoted};
use buildkit_util_suggest::search;

/// Why an instruction has no meaning. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An instruction of a file has no meaning.
    #[error("dockerfile parse error on line {line}: {error}")]
    Instruction {
        /// Its first line.
        line: u32,
        /// Why.
        error: Box<Error>,
    },
    /// Something like this word exists.
    #[error("{error} (did you mean {suggestion}?)")]
    Mistyped {
        /// What is wrong with the word.
        error: Box<Error>,
        /// What was probably meant.
        suggestion: String,
    },
    /// The keyword is not known.
    #[error("unknown instruction: {0}")]
    UnknownInstruction(String),
    /// An instruction stands before the first `FROM`.
    #[error("no build stage in current context")]
    NoStage,
    /// `FROM` where an instruction of a stage is wanted.
    #[error("*instructions.Stage is not a command type")]
    NotInStage,
    /// There are no arguments.
    #[error("{0} requires at least one argument")]
    AtLeastOneArgument(&'static str),
    /// There are none or several arguments.
    #[error("{0} requires exactly one argument")]
    ExactlyOneArgument(&'static str),
    /// There is no destination.
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    /// The destination is a here-document.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// Here-documents that together are more than a build should hold. Upstream has no such limit.
    #[error("{keyword} has here-documents of more than {limit} bytes: name each once, or copy a file")]
    HeredocsTooLarge {
        /// The keyword.
        keyword: &'static str,
        /// The bytes that are allowed.
        limit: usize,
    },
    /// A name is empty.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// `FROM` has two arguments, or no `AS` between them.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage cannot have this name.
    #[error("invalid name for build stage: {}, name can't start with a number or contain symbols", quoted(.0))]
    StageName(String),
    /// `ONBUILD ONBUILD`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    ChainedOnbuild,
    /// `ONBUILD FROM` and `ONBUILD MAINTAINER`.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    Trigger(String),
    /// An instruction that has only the exec form.
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    /// A volume without a path.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `HEALTHCHECK NONE` with more.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNoneArguments,
    /// `HEALTHCHECK CMD` without more.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckNoCommand,
    /// `HEALTHCHECK` with another type.
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", quoted(.0))]
    HealthcheckType(String),
    /// A time that Go's form of times has not.
    #[error("{0}")]
    Duration(DurationError),
    /// A time too short to mean something.
    #[error("Interval {} cannot be less than 1ms", quoted(.0))]
    ShortInterval(&'static str),
    /// `--retries` is no number.
    #[error("strconv.ParseInt: parsing {}: {reason}", quoted(value))]
    Retries {
        /// What it is.
        value: String,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// `--retries` below zero.
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i32),
    /// A flag that the instruction has not.
    #[error("unknown flag: {0}")]
    UnknownFlag(String),
    /// A flag that may stand once.
    #[error("duplicate flag specified: {0}")]
    DuplicateFlag(String),
    /// A flag without its value.
    #[error("missing a value on flag: {0}")]
    MissingFlagValue(String),
    /// A switch with a value that is none of a switch.
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    FlagNotBoolean {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
    },
    /// `--network` with an unknown value.
    #[error("invalid network mode {}", quoted(.0))]
    NetworkMode(String),
    /// `--security` with an unknown value.
    #[error("security {} is not valid", quoted(.0))]
    SecurityMode(String),
    /// The value of a flag is no line of CSV.
    #[error("failed to parse csv {what}: {reason}")]
    Csv {
        /// What it holds.
        what: &'static str,
        /// What is wrong with it.
        reason: CsvError,
    },
    /// A field that needs a value.
    #[error("invalid field '{0}' must be a key=value pair")]
    FieldWithoutValue(String),
    /// A field that is not known.
    #[error("unexpected key '{key}' in '{field}'")]
    UnexpectedKey {
        /// Its key in lower case.
        key: String,
        /// The whole of it.
        field: String,
    },
    /// A field that other types of mounts have.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherMount {
        /// Its key in lower case.
        key: String,
        /// The type of this mount.
        kind: &'static str,
    },
    /// A field whose value cannot be.
    #[error("invalid value for {key}: {value}")]
    FieldValue {
        /// Its key in lower case.
        key: String,
        /// Its value.
        value: String,
    },
    /// A number of a mount that cannot be.
    #[error("invalid value {value} for {key}")]
    MountNumber {
        /// Which one.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// `from` holds a variable.
    #[error("'{0}' doesn't support variable expansion, define alias stage instead")]
    NotExpanded(String),
    /// `type` with an unknown value.
    #[error("unsupported mount type {}", quoted(.0))]
    MountType(String),
    /// `sharing` with an unknown value.
    #[error("unsupported sharing value {}", quoted(.0))]
    ShareMode(String),
    /// `mode`, `uid` or `gid` where there is no file of ours.
    #[error("{key} not allowed for {} type mounts", quoted(kind))]
    FileInfo {
        /// Which one.
        key: &'static str,
        /// The type of the mount.
        kind: &'static str,
    },
    /// `sharing` where there is no cache.
    #[error("invalid cache sharing set for {0} mount")]
    SharingWithoutCache(&'static str),
    /// A secret that is not well described.
    #[error("{0}")]
    Secret(&'static str),
    /// A device named twice.
    #[error("device name already set to {0}")]
    DeviceName(String),
    /// An instruction that there is not on Windows.
    #[error("The daemon on this platform does not support the command stopsignal")]
    StopSignalOnWindows,
    /// A word cannot be expanded.
    #[error(transparent)]
    Expand(Box<shell::Error>),
}

impl From<shell::Error> for Error {
    fn from(error: shell::Error) -> Self {
        Self::Expand(Box::new(error))
    }
}

impl Error {
    /// Adds what was probably meant by `value`, where one of `options` is near.
    pub(crate) fn suggesting(self, value: &str, options: &[&str], case_sensitive: bool) -> Self {
        match search(value, options, case_sensitive) {
            Some(suggestion) => Self::Mistyped { error: Box::new(self), suggestion },
            None => self,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Instruction { error, .. } | Self::Mistyped { error, .. } => error.kind(),
            Self::Expand(error) => error.kind(),
            Self::HeredocsTooLarge { .. } => Kind::ResourceExhausted,
            _ => Kind::InvalidArgument,
        }
    }
}

/// An error at a byte of an instruction's joined line; without one it is the whole instruction.
pub(crate) struct At {
    pub(crate) error: Error,
    pub(crate) offset: Option<usize>,
}

impl From<Error> for At {
    fn from(error: Error) -> Self {
        Self { error, offset: None }
    }
}
