use crate::error::Cause;
use crate::expand::Expander;
use crate::lex::MAX_WORD_EXPANSION;
use crate::name::read_name;
use crate::pattern::{Pattern, trim_suffix};

const BRACE: (char, &str) = ('}', "}");
const SLASH: (char, &str) = ('/', "/");

impl Expander<'_> {
    /// `$name`, `${name}` or `${name…}`; a lone `$` stands for itself.
    pub(crate) fn dollar(&mut self) -> Result<String, Cause> {
        self.cursor.next();
        if self.cursor.eat('{') {
            return self.braces();
        }
        let name = read_name(&mut self.cursor);
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.value(&name)? {
            None if self.lex.skip_unset_env => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    fn braces(&mut self) -> Result<String, Cause> {
        match self.cursor.peek() {
            None => return Err(Cause::MissingBrace),
            Some('{' | '}' | ':') => return Err(Cause::BadSubstitution),
            Some(_) => {}
        }
        let name = read_name(&mut self.cursor);
        match self.cursor.next() {
            Some('}') => match self.value(&name)? {
                None if self.lex.skip_unset_env => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => {
                let operator = self.cursor.next();
                self.with_operator(&name, operator, true)
            }
            operator @ Some('+' | '-' | '?' | '#' | '%') => self.with_operator(&name, operator, false),
            Some('/') => self.replacement(&name),
            other => Err(unsupported("", other)),
        }
    }

    /// The operators that have one word: `null_is_unset` when a colon stands before them.
    fn with_operator(
        &mut self,
        name: &str,
        operator: Option<char>,
        null_is_unset: bool,
    ) -> Result<String, Cause> {
        let colon = if null_is_unset { ":" } else { "" };
        let is_pattern = matches!(operator, Some('#' | '%'));
        if is_pattern && null_is_unset {
            return Err(unsupported(colon, operator));
        }
        let word = self.nested(BRACE, is_pattern).map_err(|cause| self.at_end(cause, Cause::MissingBrace))?;
        let value = self.value(name)?;
        if self.lex.skip_unset_env && value.is_none() {
            return Ok(format!("${{{name}{colon}{}{word}}}", operator.unwrap_or('\u{fffd}')));
        }
        let usable = value.as_ref().filter(|value| !(null_is_unset && value.is_empty()));
        match operator {
            Some('-') => Ok(usable.cloned().unwrap_or(word)),
            Some('+') => Ok(usable.map(|_| word).unwrap_or_default()),
            Some('?') => match usable {
                Some(value) => Ok(value.clone()),
                None => Err(required(name, word, value.is_some())),
            },
            Some('#') => {
                let (pattern, greedy) = pattern(&word, '#');
                let value = value.unwrap_or_default();
                self.lex.spend_matching(pattern, &value)?;
                Ok(Pattern::prefix(pattern, greedy)?.trim(&value).to_owned())
            }
            Some('%') => {
                let (pattern, greedy) = pattern(&word, '%');
                let value = value.unwrap_or_default();
                self.lex.spend_matching(pattern, &value)?;
                trim_suffix(pattern, &value, greedy)
            }
            other => Err(unsupported(colon, other)),
        }
    }

    /// `${name/pattern/replacement}`, or with `//` for all matches.
    fn replacement(&mut self, name: &str) -> Result<String, Cause> {
        let all = self.cursor.eat('/');
        let pattern = self.nested(SLASH, true).map_err(|cause| self.at_end(cause, Cause::MissingSlash))?;
        let replacement =
            self.nested(BRACE, true).map_err(|cause| self.at_end(cause, Cause::MissingBrace))?;
        let value = self.value(name)?;
        if self.lex.skip_unset_env && value.is_none() {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        self.lex.spend_matching(&pattern, &value)?;
        let pattern = Pattern::anywhere(&pattern)?;
        let result = if all {
            pattern.replace_all(&value, &replacement, MAX_WORD_EXPANSION)?
        } else {
            pattern.replace_first(&value, &replacement)
        };
        self.bring(result.len().saturating_sub(value.len()))?;
        Ok(result)
    }

    /// What is said when a substitution ends with the text: that it is not closed, whatever else is wrong.
    fn at_end(&self, cause: Cause, instead: Cause) -> Cause {
        if self.cursor.at_end() && !cause.is_limit() { instead } else { cause }
    }
}

/// The pattern and whether the longest match is wanted: the operator stands twice.
fn pattern(word: &str, operator: char) -> (&str, bool) {
    word.strip_prefix(operator).map_or((word, false), |rest| (rest, true))
}

fn required(name: &str, message: String, is_set: bool) -> Cause {
    let message = match message.as_str() {
        "" if is_set => "is not allowed to be empty".to_owned(),
        "" => "is not allowed to be unset".to_owned(),
        _ => message,
    };
    Cause::Required { name: name.to_owned(), message }
}

fn unsupported(colon: &str, operator: Option<char>) -> Cause {
    Cause::UnsupportedModifier(format!("{colon}{}", operator.unwrap_or('\u{fffd}')))
}
