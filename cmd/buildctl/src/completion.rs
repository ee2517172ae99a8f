//! What shells need to complete command lines.

use std::ffi::OsString;

use anyhow::{Result, bail};
use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;

/// The last argument by which the original's scripts ask for candidates.
const REQUEST: &str = "--generate-shell-completion";

const SHELLS: &str = "[bash fish pwsh zsh]";

/// Prints the script of a shell.
pub(crate) fn script(shell: Option<&str>) -> Result<()> {
    let shell = match shell {
        Some("bash") => Shell::Bash,
        Some("fish") => Shell::Fish,
        Some("pwsh") => Shell::PowerShell,
        Some("zsh") => Shell::Zsh,
        Some(other) => bail!("unknown shell {other}, available shells are {SHELLS}"),
        None => bail!("no shell provided for completion command. available shells are {SHELLS}"),
    };
    let mut command = buildkit_util_goflags::adapt(Cli::command());
    clap_complete::generate(shell, &mut command, "buildctl", &mut std::io::stdout());
    Ok(())
}

/// Answers scripts of the original: a line `name:description` for everything that could come next. `None` when
/// nobody asks.
pub(crate) fn candidates(args: &[OsString]) -> Option<String> {
    let words = args.split_last().filter(|(last, _)| *last == REQUEST)?.1;
    let root = Cli::command();
    let mut command = &root;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let begun = words.last().and_then(|word| word.to_str()).filter(|word| word.starts_with('-'));
    let about = |text: Option<String>| text.unwrap_or_default().replace('\n', " ");
    let lines: Vec<String> = match begun {
        Some(begun) => {
            let prefix = begun.trim_start_matches('-');
            let fits = |arg: &&Arg| {
                !arg.is_hide_set() && arg.get_long().is_some_and(|name| name.starts_with(prefix))
            };
            let flags = command.get_arguments().filter(fits);
            let name = |arg: &Arg| arg.get_long().unwrap_or_default().to_owned();
            flags
                .map(|arg| format!("--{}:{}\n", name(arg), about(arg.get_help().map(ToString::to_string))))
                .collect()
        }
        None => {
            let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
            let line = |command: &Command| {
                format!("{}:{}\n", command.get_name(), about(command.get_about().map(ToString::to_string)))
            };
            commands.map(line).collect()
        }
    };
    Some(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let list = candidates(&args).expect("somebody asks");
        list.lines().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn candidates_are_those_of_the_command() {
        assert!(candidates(&["buildctl".into(), "du".into()]).is_none());
        let top = ["du", "prune", "prune-histories", "build", "debug"];
        assert_eq!(names("buildctl --generate-shell-completion"), top);
        assert_eq!(names("buildctl de --generate-shell-completion"), top);
        assert_eq!(names("buildctl du --f --generate-shell-completion"), ["--filter", "--format"]);
        assert_eq!(names("buildctl b --out --generate-shell-completion"), ["--output"]);
        assert!(names("buildctl debug --generate-shell-completion").contains(&"dump-llb".to_owned()));
    }
}
