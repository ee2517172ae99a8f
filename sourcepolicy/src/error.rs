use buildkit_errdefs::{Classify, Kind};

/// Why a source is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A rule denies it.
    #[error("source {identifier:?} denied by policy: source denied by policy")]
    Denied {
        /// What the source was when the rule matched it.
        identifier: String,
    },
    /// Rules go on changing it.
    #[error("too many mutations on a single source: too many operations")]
    TooManyChanges,
    /// A selector cannot be matched against it.
    #[error("error matching source policy: {0}")]
    Match(String),
    /// A rule cannot put something in its place.
    #[error("error mutating source policy: {0}")]
    Convert(String),
    /// A rule that matches it does nothing that is known.
    #[error("source policy: rule {action} {selector}: unknown type {identifier:?}")]
    UnknownAction {
        /// Number of what the rule is to do.
        action: i32,
        /// What the rule selects.
        selector: String,
        /// What the source is.
        identifier: String,
    },
    /// A policy makes no sense, whatever the source.
    #[error("{0}")]
    Invalid(String),
    /// A policy or a source is larger than anything that makes sense.
    #[error("{0}")]
    TooLarge(String),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Denied { .. } => Kind::PermissionDenied,
            Self::TooManyChanges
            | Self::Match(_)
            | Self::Convert(_)
            | Self::UnknownAction { .. }
            | Self::Invalid(_) => Kind::InvalidArgument,
            Self::TooLarge(_) => Kind::ResourceExhausted,
        }
    }
}
