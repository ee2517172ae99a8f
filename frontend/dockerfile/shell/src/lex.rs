use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Cause;
use crate::expand::Expander;
use crate::{Env, Error, Expansion};

/// The most bytes that the variables of one word may expand to.
pub const MAX_WORD_EXPANSION: usize = 4 << 20;
/// The most bytes that the variables of all words of a [`Lex`] may expand to.
pub const MAX_TOTAL_EXPANSION: usize = 64 << 20;
/// The most work that the patterns of all words of a [`Lex`] may be: for each, its length times that of the value
/// that it is sought in, or times [`MIN_MATCHED`] if that is more.
pub(crate) const MAX_TOTAL_MATCHING: usize = 1 << 29;
/// The same for one pattern.
pub(crate) const MAX_MATCHING: usize = 1 << 28;
/// Making a pattern ready is as much work as seeking it in a value of this length.
pub(crate) const MIN_MATCHED: usize = 1 << 12;
/// How deep substitutions may stand in each other.
pub const MAX_NESTING: usize = 64;

/// Expands words.
///
/// One is meant for one Dockerfile: it and its clones count together what they expanded, so that variables
/// that hold each other twice, which double with each line, end in an error and not in all of the memory.
///
/// ```
/// use buildkit_frontend_dockerfile_shell::{Lex, Variables};
///
/// let env = Variables::from_list(["version=1.2.3"]);
/// let expansion = Lex::new('\\').process_word("lib-${version%.*}-${arch:-amd64}", &env)?;
/// assert_eq!(expansion.result, "lib-1.2-amd64");
/// assert!(expansion.unmatched.contains("arch"));
/// # Ok::<(), buildkit_frontend_dockerfile_shell::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lex {
    escape_token: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escape characters stay in the result.
    pub raw_escapes: bool,
    /// Quotes have no meaning, as in here-documents.
    pub skip_process_quotes: bool,
    /// Substitutions of variables that are not set stay as they are.
    pub skip_unset_env: bool,
    spent: Arc<AtomicUsize>,
    matching: Arc<AtomicUsize>,
}

impl Lex {
    /// Expands with `escape_token` as the character that takes the meaning from the next one.
    pub fn new(escape_token: char) -> Self {
        Self {
            escape_token,
            raw_quotes: false,
            raw_escapes: false,
            skip_process_quotes: false,
            skip_unset_env: false,
            spent: Arc::default(),
            matching: Arc::default(),
        }
    }

    /// The character that takes the meaning from the next one.
    pub fn escape_token(&self) -> char {
        self.escape_token
    }

    /// Replaces the variables in `word` and removes its quotes.
    ///
    /// # Errors
    /// The word is not well formed, asks for a variable that is not set, or reaches a limit.
    pub fn process_word(&self, word: &str, env: &dyn Env) -> Result<Expansion, Error> {
        let mut expander = Expander::new(self, word, env);
        let outcome = expander.run();
        let offset = expander.offset();
        let (matched, unmatched) = expander.names();
        match outcome {
            Ok((result, words)) => Ok(Expansion { result, words, matched, unmatched }),
            Err(cause) => Err(Error { word: word.to_owned(), cause, offset, unmatched }),
        }
    }

    /// As [`Lex::process_word`], and splits what comes out at blanks that are not quoted.
    ///
    /// # Errors
    /// As for [`Lex::process_word`].
    pub fn process_words(&self, word: &str, env: &dyn Env) -> Result<Vec<String>, Error> {
        self.process_word(word, env).map(|expansion| expansion.words)
    }

    /// Counts bytes that variables expanded to.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), Cause> {
        if spend(&self.spent, bytes, MAX_TOTAL_EXPANSION) {
            Ok(())
        } else {
            Err(Cause::TooLarge { limit: MAX_TOTAL_EXPANSION })
        }
    }

    /// Counts the work of seeking a pattern in a value, before it is done.
    pub(crate) fn spend_matching(&self, pattern: &str, value: &str) -> Result<(), Cause> {
        let work = pattern.len().saturating_mul(value.len().max(MIN_MATCHED));
        if work > MAX_MATCHING {
            return Err(Cause::TooMuchMatching { limit: MAX_MATCHING });
        }
        if spend(&self.matching, work, MAX_TOTAL_MATCHING) {
            Ok(())
        } else {
            Err(Cause::TooMuchMatching { limit: MAX_TOTAL_MATCHING })
        }
    }
}

/// Adds to what was spent, unless that would be more than `limit`: then nothing is left.
fn spend(spent: &AtomicUsize, amount: usize, limit: usize) -> bool {
    let before = spent.fetch_add(amount, Ordering::Relaxed);
    let is_within = before.saturating_add(amount) <= limit;
    if !is_within {
        spent.store(limit, Ordering::Relaxed);
    }
    is_within
}
