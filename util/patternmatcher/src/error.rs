use buildkit_errdefs::{Classify, Kind};

/// Why patterns cannot be used.
///
/// The texts of the first two are upstream's: clients show and match them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pattern is not well formed.
    #[error("syntax error in pattern")]
    BadPattern,
    /// A pattern that only says "not".
    #[error("illegal exclusion pattern: \"!\"")]
    LoneExclusion,
    /// The results of a parent directory were made by another matcher.
    #[error("wrong number of values in parentMatched")]
    ForeignMatchInfo,
    /// An ignore file is larger than anybody writes by hand.
    #[error("Ignore file has {size} bytes, which is more than the limit of {limit}")]
    IgnoreFileTooLarge {
        /// Bytes that the file has.
        size: usize,
        /// Bytes that it may have.
        limit: usize,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::BadPattern | Self::LoneExclusion | Self::IgnoreFileTooLarge { .. } => Kind::InvalidArgument,
            Self::ForeignMatchInfo => Kind::Internal,
        }
    }
}
