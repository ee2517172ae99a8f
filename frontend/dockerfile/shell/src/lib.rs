//! Expands variables and splits words as Dockerfiles do.
//!
//! The rules are those of a POSIX shell without commands: quotes, an escape character, `$name`, and
//! `${name}` with the operators for defaults, for removing patterns and for replacing them.
#![forbid(unsafe_code)]

mod env;
mod expansion;

pub use env::{EmptyEnv, Env, Variables};
pub use expansion::Expansion;
