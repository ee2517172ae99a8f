//! Matches paths against .dockerignore patterns with moby's semantics.
//!
//! Patterns are anchored at the root of the tree, use the syntax of Go's `filepath.Match` with `**`
//! for any number of path elements, and the last pattern that matches decides, `!` meaning "not".
//! A pattern that matches a directory matches all that is in it.
#![forbid(unsafe_code)]

mod compile;
mod error;
mod go_regex;
mod gopath;
mod ignorefile;
mod matcher;

pub use error::Error;
pub use gopath::{glob_match, has_wildcards};
pub use ignorefile::{MAX_IGNORE_FILE_SIZE, read_all};
pub use matcher::{MatchInfo, Pattern, PatternMatcher, matches_or_parent_matches};
