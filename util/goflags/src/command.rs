use std::any::TypeId;

use clap::{Arg, ArgAction, Command};

/// Gives all flags of a command and of those below it the habits of Go's.
pub fn adapt(command: Command) -> Command {
    command.args_override_self(true).mut_args(adapt_arg).mut_subcommands(adapt)
}

fn adapt_arg(arg: Arg) -> Arg {
    if arg.is_positional() {
        return arg;
    }
    if arg.get_value_parser().type_id() == TypeId::of::<bool>() {
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let arg = arg
            .action(ArgAction::Set)
            .value_parser(parse_bool)
            .value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true);
        return if is_switch { arg.default_value("false") } else { arg };
    }
    if arg.get_action().takes_values() { arg.allow_hyphen_values(true) } else { arg }
}

/// Whether `arg` takes the argument that follows it as its value.
pub(crate) fn wants_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// A boolean in any of the spellings that Go reads.
///
/// # Errors
/// When it is none of them.
pub fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false"),
    }
}
