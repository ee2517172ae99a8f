use std::collections::BTreeSet;

use crate::cursor::Cursor;
use crate::error::Cause;
use crate::lex::{MAX_NESTING, MAX_WORD_EXPANSION};
use crate::words::Words;
use crate::{Env, Lex};

/// Expands one word.
pub(crate) struct Expander<'a> {
    pub(crate) lex: &'a Lex,
    pub(crate) cursor: Cursor<'a>,
    env: &'a dyn Env,
    raw_escapes: bool,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
    /// Bytes that variables brought.
    brought: usize,
    nesting: usize,
}

impl<'a> Expander<'a> {
    pub(crate) fn new(lex: &'a Lex, word: &'a str, env: &'a dyn Env) -> Self {
        Self {
            lex,
            cursor: Cursor::new(word),
            env,
            raw_escapes: lex.raw_escapes,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
            brought: 0,
            nesting: 0,
        }
    }

    /// The whole word, in one piece and split.
    pub(crate) fn run(&mut self) -> Result<(String, Vec<String>), Cause> {
        let mut words = Words::default();
        let result = self.text(None, Some(&mut words))?;
        Ok((result, words.finish()))
    }

    /// The variables used: those that are set and those that are not.
    pub(crate) fn names(self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.matched, self.unmatched)
    }

    pub(crate) fn offset(&self) -> usize {
        self.cursor.offset()
    }

    /// What stands in a substitution up to `stop`, which is read too.
    pub(crate) fn nested(&mut self, stop: (char, &'static str), raw_escapes: bool) -> Result<String, Cause> {
        if self.nesting == MAX_NESTING {
            return Err(Cause::TooDeep { limit: MAX_NESTING });
        }
        self.nesting += 1;
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.text(Some(stop), None);
        self.raw_escapes = before;
        self.nesting -= 1;
        result
    }

    fn text(
        &mut self,
        stop: Option<(char, &'static str)>,
        mut words: Option<&mut Words>,
    ) -> Result<String, Cause> {
        let mut result = String::new();
        while let Some(c) = self.cursor.peek() {
            match c {
                c if stop.is_some_and(|(stop, _)| stop == c) => {
                    self.cursor.next();
                    return Ok(result);
                }
                '$' => {
                    let value = self.dollar()?;
                    result.push_str(&value);
                    if let Some(words) = &mut words {
                        words.split(&value);
                    }
                    continue;
                }
                '<' | '\'' | '"' if c == '<' || !self.lex.skip_process_quotes => {
                    let kept = match c {
                        '<' => self.possible_heredoc(),
                        '\'' => self.single_quotes()?,
                        _ => self.double_quotes()?,
                    };
                    result.push_str(&kept);
                    if let Some(words) = &mut words {
                        words.keep(&kept);
                    }
                    continue;
                }
                _ => {}
            }
            self.cursor.next();
            if c != self.lex.escape_token() {
                result.push(c);
                if let Some(words) = &mut words {
                    words.split_char(c);
                }
                continue;
            }
            let escape = self.raw_escapes.then_some(c);
            // At the end there is nothing to escape.
            let escaped = self.cursor.next();
            for c in escape.into_iter().chain(escaped) {
                result.push(c);
                if let Some(words) = &mut words {
                    words.keep_char(c);
                }
            }
        }
        match stop {
            Some((_, name)) => Err(Cause::Unclosed(name)),
            None => Ok(result),
        }
    }

    /// All between single quotes is taken as it is.
    fn single_quotes(&mut self) -> Result<String, Cause> {
        let mut result = String::new();
        result.extend(self.cursor.next().filter(|_| self.lex.raw_quotes));
        while let Some(c) = self.cursor.next() {
            if c == '\'' {
                result.extend(self.lex.raw_quotes.then_some(c));
                return Ok(result);
            }
            result.push(c);
        }
        Err(Cause::Unclosed("single-quote"))
    }

    /// Between double quotes only `$` has a meaning, and the escape character before `"`, `$` and itself.
    fn double_quotes(&mut self) -> Result<String, Cause> {
        let mut result = String::new();
        result.extend(self.cursor.next().filter(|_| self.lex.raw_quotes));
        while let Some(c) = self.cursor.peek() {
            if c == '$' {
                result.push_str(&self.dollar()?);
                continue;
            }
            self.cursor.next();
            if c == '"' {
                result.extend(self.lex.raw_quotes.then_some(c));
                return Ok(result);
            }
            if c != self.lex.escape_token() {
                result.push(c);
                continue;
            }
            result.extend(self.raw_escapes.then_some(c));
            match self.cursor.peek() {
                None => {}
                Some(next) if next == '"' || next == '$' || next == c => {
                    self.cursor.next();
                    result.push(next);
                }
                Some(_) => result.push(c),
            }
        }
        Err(Cause::Unclosed("double-quote"))
    }

    /// `<<` and the blanks behind it are part of the word that follows.
    fn possible_heredoc(&mut self) -> String {
        let mut result = String::new();
        result.extend(self.cursor.next());
        if self.cursor.eat('<') {
            result.push('<');
            while let Some(c) = self.cursor.peek().filter(|c| matches!(c, '\t' | '\r' | ' ')) {
                result.push(c);
                self.cursor.next();
            }
        }
        result
    }

    /// The value of a variable, when it is set.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>, Cause> {
        let Some(value) = self.env.get(name) else {
            self.unmatched.insert(name.to_owned());
            return Ok(None);
        };
        self.matched.insert(name.to_owned());
        self.bring(value.len())?;
        Ok(Some(value.to_owned()))
    }

    /// Counts bytes that come from variables.
    pub(crate) fn bring(&mut self, bytes: usize) -> Result<(), Cause> {
        self.brought = self.brought.saturating_add(bytes);
        if self.brought > MAX_WORD_EXPANSION {
            return Err(Cause::TooLarge { limit: MAX_WORD_EXPANSION });
        }
        self.lex.spend(bytes)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Lex, Variables};

    /// The Go implementation loses `80` here.
    #[test]
    fn words_keep_what_stands_before_an_operator() {
        let words = |word| Lex::new('\\').process_words(word, &Variables::default());
        assert_eq!(words("80${port:-80}/tcp x").as_deref(), Ok(&["8080/tcp".to_owned(), "x".to_owned()][..]));
        assert_eq!(words("a b${x:-c d}e").as_deref().map(<[_]>::len), Ok(3));
    }
}
