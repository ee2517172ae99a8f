use buildkit_errdefs::{BoxError, Classify, Kind};

/// Why the worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting makes no sense or needs what is not there.
    #[error("{0}")]
    Invalid(String),
    /// A part of it could not be opened.
    #[error("Failed to open {what}")]
    Open {
        /// Which.
        what: &'static str,
        /// Whose fault it is.
        kind: Kind,
        /// Why.
        #[source]
        source: BoxError,
    },
}

impl Error {
    /// A part that failed with a classified error.
    pub(crate) fn open<E: Classify + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Open { what, kind: source.kind(), source: Box::new(source) }
    }

    /// A part that the file system refused.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Open { what, kind: Kind::of_io(&source), source: Box::new(source) }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::Open { kind, .. } => *kind,
        }
    }
}
