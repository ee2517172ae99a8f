use crate::{Directive, Heredoc, Position, Range, SourceMap};

/// What a Dockerfile says, line by line, before anything is expanded or checked for its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ast {
    /// The instructions, in their order. Never empty.
    pub nodes: Vec<Node>,
    /// The character that escapes and that continues lines: `\`, or what the directive `escape` says.
    pub escape_token: char,
    /// The comments at the top that say how to read the file.
    pub directives: Vec<Directive>,
    /// What is tolerated, but should be mended.
    pub warnings: Vec<Warning>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The instruction's keyword as written. Keywords are case-insensitive; unknown ones are parsed too, and
    /// refused when they are given a meaning.
    pub keyword: String,
    /// The words that begin with `--` between the keyword and the arguments, without quotes and escapes.
    pub flags: Vec<Word>,
    /// What follows the flags.
    pub args: Args,
    /// Whether the arguments were written as a JSON array (the exec form).
    pub json: bool,
    /// The here-documents that the line announces, in their order.
    pub heredocs: Vec<Heredoc>,
    /// The instruction as one line: continuations joined, comments between them left out, here-documents
    /// excluded.
    pub original: String,
    /// The comments above, without `#` and the blanks around. An empty comment line ends the block: only what
    /// follows it belongs to the instruction.
    pub comments: Vec<String>,
    /// The first line in the file, from 1.
    pub start_line: u32,
    /// The last line in the file, here-documents included.
    pub end_line: u32,
    /// Where in the file the bytes of `original` are.
    pub source: SourceMap,
}

/// The arguments of an instruction, in the form that its keyword asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Args {
    /// A list: of words, of the strings of a JSON array, or one string that is the rest of the line. The
    /// first word of `HEALTHCHECK` is its type.
    Words(Vec<Word>),
    /// `ENV` and `LABEL`.
    Pairs(Vec<Pair>),
    /// The trigger of `ONBUILD`, with all its own parts but comments and here-documents, which stay at
    /// `ONBUILD` itself.
    Trigger(Box<Node>),
}

/// A piece of an instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The text; of flags without quotes and escapes, of arguments with them.
    pub text: String,
    /// The byte of [`Node::original`] at which it begins.
    pub offset: usize,
}

/// A key and its value, both with their quotes and escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is before the first `=`, or the first word of the legacy form.
    pub key: Word,
    /// What is behind it, or the rest of the line in the legacy form.
    pub value: Word,
    /// The legacy form `ENV key value`, without `=`.
    pub legacy: bool,
}

/// Something that is tolerated, but should be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// One line.
    pub short: String,
    /// More of it.
    pub detail: Vec<String>,
    /// Where to read about it.
    pub url: &'static str,
    /// Where it is.
    pub range: Range,
}

impl Node {
    /// All lines of the instruction, one range each.
    pub fn ranges(&self) -> Vec<Range> {
        Range::lines(self.start_line, self.end_line)
    }

    /// Where in the file the byte `offset` of [`Node::original`] is.
    pub fn position(&self, offset: usize) -> Position {
        self.source.position(offset)
    }
}

impl Warning {
    pub(crate) fn empty_continuation(instruction: &str, line: u32) -> Self {
        Self {
            short: format!("Empty continuation line found in: {instruction}"),
            detail: vec!["Empty continuation lines will become errors in a future release".to_owned()],
            url: "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/",
            range: Range::line(line),
        }
    }
}
