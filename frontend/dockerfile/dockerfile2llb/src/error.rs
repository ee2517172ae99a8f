use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend_dockerfile_parser::{Located, Range};
use buildkit_util_grpcerrors::RemoteError;

use crate::hints::Hint;

/// Why a Dockerfile could not be converted, and which of its lines are at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{remote}")]
pub struct Error {
    /// Kind, text and details, which are those of the daemon's error if it was one.
    pub remote: RemoteError,
    /// The lines of each instruction concerned, that of the innermost cause first.
    pub locations: Vec<Vec<Range>>,
    /// What can be done about it, if the text does not say that.
    pub hint: Option<String>,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What is written in the file cannot be.
    pub fn invalid(message: impl Into<String>) -> Self {
        RemoteError::new(Kind::InvalidArgument, message).into()
    }

    /// As [`invalid`](Self::invalid), with what can be done about it.
    pub(crate) fn of(error: &(impl std::fmt::Display + Hint)) -> Self {
        Self { hint: error.hint(), ..Self::invalid(error.to_string()) }
    }

    /// Says what can be done, if nothing is said of that yet.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds the lines of the instruction that the error happened in.
    #[must_use]
    pub fn at(mut self, ranges: &[Range]) -> Self {
        if !ranges.is_empty() {
            self.locations.push(ranges.to_vec());
        }
        self
    }

    /// As [`at`](Self::at), in place of all lines known so far.
    #[must_use]
    pub fn only_at(mut self, ranges: &[Range]) -> Self {
        self.locations.clear();
        self.at(ranges)
    }

    /// Says what was attempted, before the text.
    #[must_use]
    pub fn context(mut self, context: &str) -> Self {
        self.remote.message = format!("{context}: {}", self.remote.message);
        self
    }

    /// Adds the name that was probably meant, if one of `known` is near enough.
    #[must_use]
    pub fn suggest(mut self, word: &str, known: &[String], case_sensitive: bool) -> Self {
        if let Some(near) = buildkit_util_suggest::search(word, known, case_sensitive) {
            self.remote.message.push_str(&format!(" (did you mean {near}?)"));
        }
        self
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        self.remote.kind
    }
}

impl From<RemoteError> for Error {
    fn from(remote: RemoteError) -> Self {
        Self { remote, locations: Vec::new(), hint: None }
    }
}

impl From<buildkit_client_llb::Error> for Error {
    fn from(error: buildkit_client_llb::Error) -> Self {
        RemoteError::from_error(&error).into()
    }
}

impl From<buildkit_util_patternmatcher::Error> for Error {
    fn from(error: buildkit_util_patternmatcher::Error) -> Self {
        Self::invalid(error.to_string())
    }
}

impl<E: std::fmt::Display + Hint> From<Located<E>> for Error {
    fn from(error: Located<E>) -> Self {
        Self { locations: error.locations, ..Self::of(&error.error) }
    }
}

/// Adds lines to the error of a result.
pub(crate) trait At<T> {
    fn at(self, ranges: &[Range]) -> Result<T>;
}

impl<T, E: Into<Error>> At<T> for std::result::Result<T, E> {
    fn at(self, ranges: &[Range]) -> Result<T> {
        self.map_err(|error| error.into().at(ranges))
    }
}

impl From<buildkit_frontend_dockerfile_instructions::Error> for Error {
    fn from(error: buildkit_frontend_dockerfile_instructions::Error) -> Self {
        Self::of(&error)
    }
}

impl From<buildkit_frontend_dockerfile_shell::Error> for Error {
    fn from(error: buildkit_frontend_dockerfile_shell::Error) -> Self {
        Self::of(&error)
    }
}

impl From<buildkit_frontend_dockerfile_parser::Error> for Error {
    fn from(error: buildkit_frontend_dockerfile_parser::Error) -> Self {
        Self::of(&error)
    }
}

impl From<buildkit_frontend_dockerfile_dfgitutil::QueryError> for Error {
    fn from(error: buildkit_frontend_dockerfile_dfgitutil::QueryError) -> Self {
        Self::invalid(error.to_string())
    }
}
