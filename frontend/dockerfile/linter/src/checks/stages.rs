use std::collections::HashSet;

use buildkit_util_gotext::quoted;

use super::broken;
use crate::{Violation, rule};

/// Names that mean something else than a stage.
const RESERVED: [&str; 2] = ["context", "scratch"];

/// For each `FROM … AS name`, found by the instructions' parser; with the name as written.
pub fn stage_name_casing(name: &str) -> Option<Violation> {
    (name != name.to_lowercase())
        .then(|| broken(&rule::STAGE_NAME_CASING, format!("Stage name '{name}' should be lowercase")))
}

/// For each `FROM … AS name`, found by the instructions' parser; with the keywords as written. One that is in
/// mixed case itself is the business of [`CaseMajority`].
pub fn from_as_casing(from: &str, as_keyword: &str) -> Option<Violation> {
    let (lower, upper) = (from.to_lowercase(), from.to_uppercase());
    let is_same = match from {
        from if from == lower => as_keyword == as_keyword.to_lowercase(),
        from if from == upper => as_keyword == as_keyword.to_uppercase(),
        _ => true,
    };
    let message = || format!("'{as_keyword}' and '{from}' keywords' casing do not match");
    (!is_same).then(|| broken(&rule::FROM_AS_CASING, message()))
}

/// For each named stage and each `ARG`, found by the instructions' parser: the comment right above does not
/// begin with what is defined. `key` is its name, or `<arg_key>` when several are defined at once.
pub fn definition_description(instruction: &str, key: &str) -> Violation {
    let message = format!("Comment for {instruction} should follow the format: `# {key} <description>`");
    broken(&rule::INVALID_DEFINITION_DESCRIPTION, message)
}

/// Once for each stage with a name, in their order, before [`StageNames::add`]; with the file's linter. Names are
/// in lower case, as stages have them.
pub fn reserved_stage_name(name: &str) -> Option<Violation> {
    let message = || format!("Stage name should not use the same name as reserved stage {}", quoted(name));
    RESERVED.contains(&name).then(|| broken(&rule::RESERVED_STAGE_NAME, message()))
}

/// The names of stages that were seen, for the rule that each occurs once.
#[derive(Clone, Debug, Default)]
pub struct StageNames {
    seen: HashSet<String>,
}

impl StageNames {
    /// Once for each stage with a name, in their order; with the file's linter. Names are in lower case, as
    /// stages have them.
    pub fn add(&mut self, name: &str) -> Option<Violation> {
        let message = || format!("Duplicate stage name {}, stage names should be unique", quoted(name));
        (!self.seen.insert(name.to_owned())).then(|| broken(&rule::DUPLICATE_STAGE_NAME, message()))
    }
}

/// Whether most keywords of a file are in lower or in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseMajority {
    is_lower: bool,
}

impl CaseMajority {
    /// Once for a file, with the keywords of all its stages (`FROM`) and their instructions as written. Global
    /// `ARG`s do not count.
    pub fn of<'a>(keywords: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut lower, mut upper) = (0u64, 0u64);
        for keyword in keywords {
            if keyword == keyword.to_lowercase() {
                lower += 1;
            } else if keyword == keyword.to_uppercase() {
                upper += 1;
            }
        }
        Self { is_lower: lower > upper }
    }

    /// For the same keywords, in their order: each `FROM` before the instructions of its stage; with the file's
    /// linter.
    pub fn check(self, keyword: &str) -> Option<Violation> {
        let (is_right, casing) = match self.is_lower {
            true => (keyword == keyword.to_lowercase(), "lowercase"),
            false => (keyword == keyword.to_uppercase(), "uppercase"),
        };
        let message =
            || format!("Command '{keyword}' should match the case of the command majority ({casing})");
        (!is_right).then(|| broken(&rule::CONSISTENT_INSTRUCTION_CASING, message()))
    }
}
