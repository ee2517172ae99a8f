//! What each rule asks, on plain words.
//!
//! A check that can tell by itself gives a [`Violation`] only if its rule is broken; the others choose the words
//! when their caller has found that out, and say what it is that breaks the rule. All say when they are to be
//! called; [`Linter::report`](crate::Linter::report) takes what they give, with the lines of the instruction
//! unless the check says otherwise, and is to be that of the instruction's own comments
//! ([`Linter::with_comments`](crate::Linter::with_comments)) unless the check says it is the file's.

mod from;
mod instructions;
mod stages;

pub use from::{
    base_image_platform, constant_platform, default_base_name, redundant_target_platform,
    undefined_arg_in_from,
};
pub use instructions::{
    copy_ignored_file, expose_format, expose_protocol_casing, json_args_recommended, legacy_key_value_format,
    maintainer_deprecated, multiple_instructions, no_empty_continuation, secret_in_arg_or_env, undefined_var,
    workdir_relative_path,
};
pub use stages::{
    CaseMajority, StageNames, definition_description, from_as_casing, reserved_stage_name, stage_name_casing,
};

use crate::{Rule, Violation};

fn broken(rule: &'static Rule, message: impl Into<String>) -> Violation {
    Violation { rule, message: message.into() }
}

/// ` (did you mean WORD?)` if there is one.
fn suggestion(prefix: &str, word: Option<&str>) -> String {
    word.map_or_else(String::new, |word| format!(" (did you mean {prefix}{word}?)"))
}
