//! Expands variables and splits words as Dockerfiles do.
//!
//! The rules are those of a POSIX shell without commands: quotes, an escape character, `$name`, and
//! `${name}` with the operators for defaults, for removing patterns and for replacing them.
#![forbid(unsafe_code)]

mod cursor;
mod env;
mod error;
mod expand;
mod expansion;
mod lex;
mod name;
mod pattern;
mod substitution;
mod words;

pub use env::{EmptyEnv, Env, Variables};
pub use error::{Cause, Error};
pub use expansion::Expansion;
pub use lex::{Lex, MAX_NESTING, MAX_TOTAL_EXPANSION, MAX_WORD_EXPANSION};
