use buildkit_errdefs::{Classify, Kind};

/// Why a graph cannot be written.
///
/// Most builder calls cannot fail; what is wrong with them is reported when the graph is marshalled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image reference is malformed.
    #[error("Invalid image reference `{reference}`: {reason}")]
    Reference {
        /// The text that was given.
        reference: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A command line has an open quote or ends in an escape character.
    #[error("Command line `{0}` ends inside a quotation")]
    UnclosedQuote(String),
    /// A process without arguments or without a working directory.
    #[error("Exec needs {0}")]
    IncompleteExec(&'static str),
    /// A mount was asked for whose changes are not kept, or that does not exist.
    #[error("Mount at `{target}` cannot be used as a state: {reason}")]
    MountOutput {
        /// Where it is mounted.
        target: String,
        /// Why it has no output.
        reason: &'static str,
    },
    /// A tmpfs mount that starts from a tree.
    #[error("Tmpfs mount at `{0}` must start empty")]
    TmpfsSource(String),
    /// An op that lacks something.
    #[error("{op} needs {what}")]
    IncompleteOp {
        /// Kind of op.
        op: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// The configuration of an image is not JSON of the OCI form.
    #[error("Image configuration is malformed: {0}")]
    ImageConfig(String),
    /// A definition that was to be built upon is malformed.
    #[error("Definition is malformed: {0}")]
    Definition(String),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
