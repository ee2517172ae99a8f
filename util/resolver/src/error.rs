use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_ocispec::DocumentError;

/// What was asked of which registry, for errors: `registry H: GET manifest of a/b:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Host, with its port if it has one.
    pub host: Arc<str>,
    /// Method and object.
    pub action: Arc<str>,
}

impl Attempt {
    pub(crate) fn new(host: impl Into<Arc<str>>, action: impl Into<Arc<str>>) -> Self {
        Self { host: host.into(), action: action.into() }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registry {}: {}", self.host, self.action)
    }
}

/// What a registry said with a status that is no success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Status, such as 404.
    pub status: u16,
    /// The message in the body, in one line; empty if there is none.
    pub message: String,
    /// By which its operators find the request in their logs.
    pub request_id: Option<String>,
    /// When it wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        let reason = reqwest::StatusCode::from_u16(self.status).ok();
        if let Some(reason) = reason.and_then(|status| status.canonical_reason()) {
            write!(f, " {reason}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

/// Why a registry did not do what was asked. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It answered with an error.
    #[error("{attempt}: {said}")]
    Status {
        /// What was asked.
        attempt: Attempt,
        /// The answer.
        said: Box<Said>,
    },
    /// It does not know who asks, or does not let them.
    #[error("{attempt}: {reason}: authorization failed")]
    Unauthorized {
        /// What was asked.
        attempt: Attempt,
        /// Why.
        reason: String,
    },
    /// The connection failed.
    #[error("{attempt}: {reason}")]
    Network {
        /// What was asked.
        attempt: Attempt,
        /// Why.
        reason: String,
    },
    /// It took too long.
    #[error("{attempt}: no {what} within {} s", limit.as_secs_f32())]
    Timeout {
        /// What was asked.
        attempt: Attempt,
        /// What did not come.
        what: &'static str,
        /// In which time.
        limit: Duration,
    },
    /// The answer is not what it must be.
    #[error("{attempt}: {reason}")]
    Invalid {
        /// What was asked.
        attempt: Attempt,
        /// What is wrong.
        reason: String,
    },
    /// A manifest is not what it must be.
    #[error("{attempt}: {source}")]
    Document {
        /// What was asked.
        attempt: Attempt,
        /// What is wrong.
        source: DocumentError,
    },
    /// Nothing is asked of a registry in this way.
    #[error("{attempt}: {reason}")]
    Refused {
        /// What was to be asked.
        attempt: Attempt,
        /// Why not.
        reason: String,
    },
    /// The client did not give the credentials.
    #[error("{attempt}: {source}")]
    Session {
        /// For what.
        attempt: Attempt,
        /// Why.
        source: buildkit_session_auth::Error,
    },
    /// The realm gave no token, as often as it was asked.
    #[error("{0}")]
    Token(Box<Self>),
    /// A file of the registry's configuration cannot be used.
    #[error("configuration of registry {host}: {reason}")]
    Config {
        /// The registry.
        host: String,
        /// The file and what is wrong.
        reason: String,
    },
    /// The blob to be pushed cannot be read.
    #[error("{attempt}: {source}")]
    Source {
        /// What was asked.
        attempt: Attempt,
        /// Why it cannot be read.
        source: Box<buildkit_util_contentutil::Error>,
    },
    /// Neither the registry nor one of its mirrors did it.
    #[error("{origin} (mirrors before it: {mirrors})")]
    All {
        /// What it comes to.
        kind: Kind,
        /// What the registry itself said.
        origin: Box<Self>,
        /// What the mirrors said.
        mirrors: String,
    },
}

impl Error {
    pub(crate) fn invalid(attempt: &Attempt, reason: impl Into<String>) -> Self {
        Self::Invalid { attempt: attempt.clone(), reason: reason.into() }
    }

    pub(crate) fn refused(attempt: &Attempt, reason: impl Into<String>) -> Self {
        Self::Refused { attempt: attempt.clone(), reason: reason.into() }
    }

    pub(crate) fn network(attempt: &Attempt, error: &reqwest::Error) -> Self {
        Self::Network { attempt: attempt.clone(), reason: reason_of(error) }
    }

    /// The status that a registry answered with.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { said, .. } => Some(said.status),
            Self::All { origin, .. } => origin.status(),
            _ => None,
        }
    }

    /// Whether the same request may succeed when it is sent again.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Status { said, .. } => matches!(said.status, 408 | 409 | 425 | 429 | 500 | 502 | 503 | 504),
            Self::Network { .. } | Self::Timeout { .. } => true,
            _ => false,
        }
    }

    /// When the registry wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { said, .. } => said.retry_after,
            _ => None,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Status { said, .. } => match said.status {
                401 => Kind::Unauthenticated,
                403 => Kind::PermissionDenied,
                404 | 410 => Kind::NotFound,
                408 | 425 | 429 | 500..=599 => Kind::Unavailable,
                409 => Kind::Aborted,
                413 => Kind::ResourceExhausted,
                400..=499 => Kind::InvalidArgument,
                _ => Kind::Unknown,
            },
            Self::Unauthorized { .. } => Kind::Unauthenticated,
            Self::Network { .. } => Kind::Unavailable,
            Self::Timeout { .. } => Kind::DeadlineExceeded,
            Self::Invalid { .. } => Kind::FailedPrecondition,
            Self::Document { source, .. } => source.kind(),
            Self::Refused { .. } | Self::Config { .. } => Kind::InvalidArgument,
            Self::Session { source, .. } => source.kind(),
            Self::Token(error) => error.kind(),
            Self::Source { source, .. } => source.kind(),
            Self::All { kind, .. } => *kind,
        }
    }
}

/// The innermost reasons of a failed connection, without the URL, which may hold secrets.
pub(crate) fn reason_of(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    // Outer ones repeat what inner ones say, or say nothing.
    match texts.pop() {
        Some(last) => one_line(&last),
        None if error.is_timeout() => "timed out".to_owned(),
        None => "the connection failed".to_owned(),
    }
}

/// Text of others in one short line.
pub(crate) fn one_line(text: &str) -> String {
    let mut line: String = text
        .split_whitespace()
        .flat_map(|word| [word, " "])
        .flat_map(str::chars)
        .filter(|c| !c.is_control())
        .take(500)
        .collect();
    line.truncate(line.trim_end().len());
    line
}
