use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend_dockerfile_shell as shell;
use buildkit_util_gotext::quoted;

use crate::MAX_LINE;

/// Why a file is not a Dockerfile. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `# escape=` with something else than the two characters that there are.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    InvalidEscapeToken(String),
    /// A directive stands twice.
    #[error("only one {0} parser directive can be used")]
    DuplicateDirective(&'static str),
    /// A line is longer than anybody writes.
    #[error("dockerfile line greater than max allowed size of {MAX_LINE}")]
    LineTooLong,
    /// There are at most comments.
    #[error("file with no instructions")]
    NoInstructions,
    /// The line that ends a here-document does not come.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    /// The word behind `<<` cannot be read.
    #[error(transparent)]
    HeredocWord(Box<shell::Error>),
    /// The word behind `<<` is one with its quotes and several without.
    #[error("internal lexing of heredoc produced inconsistent results: {0}")]
    InconsistentHeredoc(String),
    /// A JSON array holds something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStringArray,
    /// The legacy form of `ENV` or `LABEL` has no value.
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    /// A word of `ENV` or `LABEL` is no pair.
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", quoted(.0))]
    MissingEquals(String),
}

impl From<shell::Error> for Error {
    fn from(error: shell::Error) -> Self {
        Self::HeredocWord(Box::new(error))
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::HeredocWord(error) => error.kind(),
            _ => Kind::InvalidArgument,
        }
    }
}

/// An error at a byte of an instruction's joined line.
pub(crate) struct At {
    pub(crate) error: Error,
    pub(crate) offset: usize,
}
