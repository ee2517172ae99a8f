//! Reads Dockerfiles into a syntax tree with exact positions.
//!
//! The tree keeps what was written: casing, comments, quotes and escapes. What the words mean is the
//! business of the instructions' types, and variables are expanded by the word expander, both crates of
//! their own.
#![forbid(unsafe_code)]

mod ast;
mod directive;
mod heredoc;
mod located;
mod position;
mod source_map;

pub use ast::{Args, Ast, Node, Pair, Warning, Word};
pub use directive::{Detected, Directive, DirectiveKind};
pub use heredoc::Heredoc;
pub use located::Located;
pub use position::{Position, Range};
pub use source_map::SourceMap;
