//! Reads command lines as Go programs do.
//!
//! The flags are declared with `clap`; [`try_parse_from`] bends its rules to those of the library that
//! the original's programs use (`urfave/cli`), so that scripts go on working:
//!
//! - a long flag may be written with one dash (`-addr`);
//! - a switch takes a value after `=` (`--debug=false`), in any spelling that Go reads as a boolean;
//! - of a flag given several times the last one counts, unless it is a list;
//! - the argument behind a flag that wants a value is that value, even when it begins with a dash.
#![forbid(unsafe_code)]

mod command;
mod normalize;
mod profile;

use std::ffi::OsString;

pub use command::{adapt, parse_bool};
pub use normalize::normalize;
pub use profile::ProfileFlags;

/// Reads `args`, of which the first is the program's name.
///
/// # Errors
/// What `clap` finds wrong, or the help that was asked for.
pub fn try_parse_from<P: clap::Parser>(args: impl IntoIterator<Item = OsString>) -> Result<P, clap::Error> {
    let mut command = adapt(P::command());
    let args = normalize(args, &command);
    P::from_arg_matches(&command.try_get_matches_from_mut(args)?).map_err(|error| error.format(&mut command))
}
