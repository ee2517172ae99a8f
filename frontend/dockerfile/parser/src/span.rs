use crate::Word;

/// Part of an instruction's joined line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    pub(crate) text: &'a str,
    /// The byte of the line at which it begins.
    pub(crate) at: usize,
}

impl<'a> Span<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What begins at byte `start` of it, which is the start of a character.
    pub(crate) fn from(self, start: usize) -> Self {
        Self { text: self.text.get(start..).unwrap_or_default(), at: self.at + start }
    }

    /// What ends before byte `end` of it, which is the start of a character.
    pub(crate) fn to(self, end: usize) -> Self {
        Self { text: self.text.get(..end).unwrap_or(self.text), at: self.at }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn trim(self) -> Self {
        let behind = self.trim_start();
        Self { text: behind.text.trim_end(), ..behind }
    }

    pub(crate) fn trim_start(self) -> Self {
        self.from(self.text.len() - self.text.trim_start().len())
    }

    pub(crate) fn trim_start_ascii(self) -> Self {
        self.from(self.text.len() - self.text.trim_start_matches(is_ascii_blank).len())
    }

    /// What is before the first blanks, and what behind them.
    pub(crate) fn split_at_blanks(self) -> (Self, Option<Self>) {
        let Some(start) = self.text.find(is_blank) else { return (self, None) };
        let behind = self.from(start);
        let blanks = behind.text.len() - behind.text.trim_start_matches(is_blank).len();
        (self.to(start), Some(behind.from(blanks)))
    }

    pub(crate) fn to_word(self) -> Word {
        Word { text: self.text.to_owned(), offset: self.at }
    }
}

/// What separates flags from each other and the type of a `HEALTHCHECK` from its command.
pub(crate) fn is_ascii_blank(c: char) -> bool {
    c == '\n' || is_blank(c)
}

/// What separates a keyword from its arguments, and the arguments of a list.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}
