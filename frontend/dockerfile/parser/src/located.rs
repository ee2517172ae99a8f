use std::fmt;

use crate::{Position, Range};

/// An error and where in the file it is.
///
/// Its text is that of the error alone; [`Located::in_file`] writes file, line and column before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<E> {
    /// What is wrong.
    pub error: E,
    /// The lines concerned, as clients show them: those of the innermost cause first.
    pub locations: Vec<Vec<Range>>,
    /// The word that is wrong, or the beginning of its instruction.
    pub position: Position,
}

impl<E> Located<E> {
    /// `error` at the lines `ranges`, of which `position` is the word that is wrong.
    pub fn new(error: E, ranges: Vec<Range>, position: Position) -> Self {
        Self { error, locations: vec![ranges], position }
    }

    /// The same place with another error, which is usually made of this one's.
    pub fn map<F>(self, change: impl FnOnce(E) -> F) -> Located<F> {
        Located { error: change(self.error), locations: self.locations, position: self.position }
    }

    /// Adds the lines of what the error happened in.
    pub fn within(mut self, ranges: Vec<Range>) -> Self {
        self.locations.push(ranges);
        self
    }
}

impl<E: fmt::Display> Located<E> {
    /// `FILE:LINE:COLUMN: TEXT`, with the column from 1 as editors count.
    pub fn in_file(&self, file: &str) -> String {
        let Position { line, character } = self.position;
        format!("{file}:{}:{}: {}", line.max(1), character.saturating_add(1), self.error)
    }
}

impl<E: fmt::Display> fmt::Display for Located<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: std::error::Error> std::error::Error for Located<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
