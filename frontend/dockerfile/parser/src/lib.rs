//! Reads Dockerfiles into a syntax tree with exact positions.
//!
//! The tree keeps what was written: casing, comments, quotes and escapes. What the words mean is the
//! business of the instructions' types, and variables are expanded by the word expander, both crates of
//! their own.
#![forbid(unsafe_code)]

mod ast;
mod detect;
mod directive;
mod dump;
mod error;
mod heredoc;
mod json;
mod keyword;
mod lines;
mod located;
mod node;
mod parse;
mod position;
mod source_map;
mod span;
mod words;

pub use ast::{Args, Ast, Node, Pair, Warning, Word};
pub use detect::{Detected, detect_syntax, parse_directive};
pub use directive::{Directive, DirectiveKind, DirectiveParser};
pub use error::Error;
pub use heredoc::{Heredoc, chomp};
pub use keyword::KEYWORDS;
pub use lines::MAX_LINE;
pub use located::Located;
pub use parse::parse;
pub use position::{Position, Range};
pub use source_map::SourceMap;
