use buildkit_errdefs::{Classify, Kind};

/// Why a mount could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong. The texts are the original's where it has one.
    #[error("{0}")]
    Invalid(String),
    /// No session could be used.
    #[error(transparent)]
    Session(#[from] buildkit_session::Error),
    /// The secret is not to be had.
    #[error(transparent)]
    Secret(#[from] buildkit_session_secrets::Error),
    /// The client forwards no such agent.
    #[error("no SSH key {id:?} forwarded from the client")]
    NoAgent {
        /// Id of the agent.
        id: String,
        /// What the client said.
        #[source]
        source: buildkit_session_sshforward::Error,
    },
    /// The agent is not to be had.
    #[error(transparent)]
    Agent(#[from] buildkit_session_sshforward::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] buildkit_cache::Error),
    /// The system refused.
    #[error("Failed to {action}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Work did not come to its end.
    #[error("Failed to {action}")]
    Interrupted {
        /// What was attempted.
        action: &'static str,
        /// What happened to it.
        #[source]
        source: buildkit_util_appcontext::TaskError,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::Session(error) => error.kind(),
            Self::Secret(error) => error.kind(),
            Self::NoAgent { .. } => Kind::NotFound,
            Self::Agent(error) => error.kind(),
            Self::Cache(error) => error.kind(),
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Interrupted { .. } => Kind::Internal,
        }
    }
}
