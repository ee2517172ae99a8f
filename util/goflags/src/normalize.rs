use std::ffi::OsString;

use clap::{Arg, Command};

use crate::command::wants_value;

/// Writes `-flag` as `--flag` where `flag` is the long name of one that the command at that place has;
/// everything else stays. `args` begins with the program's name.
pub fn normalize(args: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut normal: Vec<OsString> = args.by_ref().take(1).collect();
    // The command and those below it that were named so far: flags of all of them apply.
    let mut path = vec![command];
    while let Some(arg) = args.next() {
        let Some(text) = arg.to_str() else {
            normal.push(arg);
            continue;
        };
        if text == "--" {
            normal.push(arg);
            break;
        }
        let Some(flag) = text.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            let below = path.last().and_then(|command| command.find_subcommand(text));
            path.extend(below);
            normal.push(arg);
            continue;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, has_value) = flag.split_once('=').map_or((flag, false), |(name, _)| (name, true));
        let known = find(&path, name);
        let is_long = name == "help" || known.is_some_and(|arg| arg.get_long() == Some(name));
        normal.push(if is_long { format!("--{flag}").into() } else { arg });
        if !has_value && known.is_some_and(wants_value) {
            normal.extend(args.next());
        }
    }
    normal.extend(args);
    normal
}

/// The flag of a long or short name, of the innermost command that has it.
fn find<'a>(path: &[&'a Command], name: &str) -> Option<&'a Arg> {
    let is_short = |arg: &Arg| arg.get_short().is_some_and(|short| name.chars().eq([short]));
    path.iter()
        .rev()
        .find_map(|command| command.get_arguments().find(|arg| arg.get_long() == Some(name) || is_short(arg)))
}
