//! Go programs take long flags with one dash too.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::Command;

/// Writes `-flag` as `--flag` where `flag` is the long name of one; everything else stays.
pub(crate) fn normalize(args: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let mut names = HashSet::from(["help".to_owned(), "version".to_owned()]);
    collect(command, &mut names);
    let mut only_values = false;
    args.into_iter()
        .map(|arg| {
            only_values |= arg == "--";
            let is_flag = !only_values
                && arg.to_str().is_some_and(|text| {
                    text.strip_prefix('-').is_some_and(|rest| {
                        let name = rest.split('=').next().unwrap_or(rest);
                        name.len() > 1 && names.contains(name)
                    })
                });
            if is_flag {
                let mut long = OsString::from("-");
                long.push(&arg);
                long
            } else {
                arg
            }
        })
        .collect()
}

fn collect(command: &Command, names: &mut HashSet<String>) {
    names.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned));
    for sub in command.get_subcommands() {
        collect(sub, names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn one_dash_is_enough() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        for (given, expect) in [
            (&["b", "-addr", "x", "-o", "y"][..], &["b", "--addr", "x", "-o", "y"][..]),
            (&["b", "-wait=true", "--debug"], &["b", "--wait=true", "--debug"]),
            (&["b", "-", "-x", "-fx"], &["b", "-", "-x", "-fx"]),
            (&["b", "--", "-addr"], &["b", "--", "-addr"]),
        ] {
            assert_eq!(normalize(args(given), &Cli::command()), args(expect));
        }
    }
}
