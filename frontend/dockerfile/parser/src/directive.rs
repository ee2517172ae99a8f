use crate::Range;

/// A comment at the top of the file that says how to read it, as `# syntax=docker/dockerfile:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Which one.
    pub kind: DirectiveKind,
    /// What is behind `=`, without the blanks around.
    pub value: String,
    /// Its line.
    pub range: Range,
}

/// The directives that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DirectiveKind {
    /// The image of the frontend that reads the file.
    Syntax,
    /// The escape character.
    Escape,
    /// What the linter skips, and whether its warnings are errors.
    Check,
}

/// What a file says of its frontend, or of another directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The value up to the first blank: the image.
    pub value: String,
    /// The whole value: the image and its arguments.
    pub command_line: String,
    /// Where it says so.
    pub ranges: Vec<Range>,
}
