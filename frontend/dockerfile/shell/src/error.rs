use std::collections::BTreeSet;

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_gotext::quoted;

/// The most bytes of a word that an error repeats.
const MAX_SHOWN: usize = 1024;

/// Why a word cannot be expanded.
///
/// The text begins with the word, as in upstream: `failed to process "${": …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {cause}", shown(word))]
pub struct Error {
    /// The whole word.
    pub word: String,
    /// What is wrong with it.
    pub cause: Cause,
    /// The byte of the word up to which it was read.
    pub offset: usize,
    /// The variables used up to there that were not set, as in [`Expansion`](crate::Expansion).
    pub unmatched: BTreeSet<String>,
}

/// What is wrong with a word. The texts are upstream's, but for the limits, which it does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// A quote or brace is not closed.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    /// `${` is not closed.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${name/pattern` has no replacement.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${{`, `${}` or `${:`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// An operator that is not known.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// A variable is required by `?`, and is not there.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the operator says of that.
        message: String,
    },
    /// A pattern of `#`, `%` or `/` cannot be used.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    InvalidPattern {
        /// The pattern; of `%` it is reversed.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// Substitutions stand in each other deeper than anybody writes.
    #[error("Substitutions are nested deeper than {limit}: name parts of it with ARG")]
    TooDeep {
        /// The depth that is allowed.
        limit: usize,
    },
    /// The values of the variables make too much text.
    #[error("Variables expand to more than {limit} bytes: use a file instead")]
    TooLarge {
        /// Bytes that are allowed.
        limit: usize,
    },
    /// Patterns and the values that they are sought in are too large, one of them or all together.
    #[error(
        "Patterns and values are too large to be matched: their lengths multiplied are more than {limit}"
    )]
    TooMuchMatching {
        /// The product that is allowed.
        limit: usize,
    },
}

impl Cause {
    /// Whether it is a limit that was reached, which nothing around it may hide.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::TooDeep { .. } | Self::TooLarge { .. } | Self::TooMuchMatching { .. })
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        if self.cause.is_limit() { Kind::ResourceExhausted } else { Kind::InvalidArgument }
    }
}

fn shown(word: &str) -> String {
    if word.len() <= MAX_SHOWN {
        return quoted(word);
    }
    let end = (0..=MAX_SHOWN).rev().find(|at| word.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", quoted(&word[..end]))
}
