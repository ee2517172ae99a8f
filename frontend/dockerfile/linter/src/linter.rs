use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend_dockerfile_parser::Range;
use parking_lot::Mutex;

use crate::{Config, Rule, Violation};

/// What is told of a broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: &'static Rule,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub ranges: Vec<Range>,
}

impl Warning {
    /// The warning as one line for the progress of a build.
    pub fn one_line(&self) -> String {
        let line = self.ranges.first().map_or(0, |range| range.start.line);
        with_place(self.rule.name, &self.message, line)
    }
}

/// `RULE: MESSAGE (line N)`; line 0 is none.
pub fn with_place(rule: &str, message: &str, line: u32) -> String {
    match line {
        0 => format!("{rule}: {message}"),
        line => format!("{rule}: {message} (line {line})"),
    }
}

/// Rules are broken and the file or its user want that to be an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lint violation found for rules: {}", .0.join(", "))]
pub struct BrokenRules(pub Vec<&'static str>);

impl Classify for BrokenRules {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Passes on what is broken of the rules that somebody heeds.
///
/// Clones, such as those for one instruction, count broken rules together.
#[derive(Clone)]
pub struct Linter {
    config: Config,
    sink: Option<Arc<dyn Fn(Warning) + Send + Sync>>,
    broken: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl std::fmt::Debug for Linter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Linter").field("config", &self.config).field("broken", &self.broken).finish()
    }
}

impl Linter {
    /// A linter that tells `sink` of every broken rule at once, in the order in which they are reported.
    pub fn new(config: Config, sink: impl Fn(Warning) + Send + Sync + 'static) -> Self {
        Self { config, sink: Some(Arc::new(sink)), broken: Arc::default() }
    }

    /// A linter that heeds no rule, for builds whose warnings were told already.
    pub fn silent() -> Self {
        Self { config: Config::default(), sink: None, broken: Arc::default() }
    }

    /// The linter for an instruction with these comments (without `#`) above it: one that also skips what
    /// `check=skip=…` in them says.
    pub fn with_comments(&self, comments: &[String]) -> Cow<'_, Self> {
        match Config::of_comments(comments) {
            None => Cow::Borrowed(self),
            Some(more) => {
                let mut linter = self.clone();
                linter.config.add(&more);
                Cow::Owned(linter)
            }
        }
    }

    /// Tells of a broken rule unless it is not heeded.
    pub fn report(&self, violation: impl Into<Option<Violation>>, ranges: &[Range]) {
        let (Some(Violation { rule, message }), Some(sink)) = (violation.into(), &self.sink) else { return };
        let is_heeded = match rule.experimental {
            true => self.config.experimental.contains(rule.name),
            false => !self.config.skip.contains(rule.name),
        };
        if rule.deprecated || !is_heeded {
            return;
        }
        self.broken.lock().insert(rule.name);
        sink(Warning { rule, message, ranges: ranges.to_vec() });
    }

    /// To be called when the whole file was looked at and is otherwise right.
    ///
    /// # Errors
    /// When rules are broken and that is to be an error.
    pub fn finish(&self) -> Result<(), BrokenRules> {
        let broken = self.broken.lock();
        if !self.config.error || broken.is_empty() {
            return Ok(());
        }
        Err(BrokenRules(broken.iter().copied().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule;

    #[test]
    fn who_wants_to_hear_is_told() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let linter = |config: &str| {
            told.lock().clear();
            let told = told.clone();
            Linter::new(Config::parse(config).expect("reads"), move |warning| {
                told.lock().push(warning.one_line());
            })
        };
        let report = |linter: &Linter, rule: &'static Rule, line| {
            let ranges: Vec<Range> = (line > 0).then(|| Range::line(line)).into_iter().collect();
            linter.report(Violation { rule, message: "no".to_owned() }, &ranges);
        };
        let everything = |config: &str| {
            let linter = linter(config);
            for (line, rule) in
                [&rule::UNDEFINED_VAR, &rule::STAGE_NAME_CASING, &rule::INVALID_DEFINITION_DESCRIPTION]
                    .into_iter()
                    .enumerate()
            {
                report(&linter, rule, u32::try_from(line).expect("small"));
            }
            (told.lock().clone(), linter.finish().map_err(|error| error.to_string()))
        };
        let (var, casing) = ("UndefinedVar: no".to_owned(), "StageNameCasing: no (line 1)".to_owned());
        assert_eq!(everything(""), (vec![var.clone(), casing.clone()], Ok(())));
        assert_eq!(
            everything("error=1"),
            (
                vec![var.clone(), casing.clone()],
                Err("lint violation found for rules: StageNameCasing, UndefinedVar".to_owned())
            )
        );
        assert_eq!(everything("skip=UndefinedVar"), (vec![casing.clone()], Ok(())));
        let description = "InvalidDefinitionDescription: no (line 2)".to_owned();
        assert_eq!(everything("skip=all;experimental=all;error=false"), (vec![description.clone()], Ok(())));
        assert_eq!(
            everything("experimental=InvalidDefinitionDescription"),
            (vec![var, casing.clone(), description], Ok(()))
        );
        assert_eq!(everything("skip=all;error=true"), (Vec::new(), Ok(())));

        let whole = linter("error=true");
        let comments = ["check=skip=UndefinedVar".to_owned()];
        report(&whole.with_comments(&comments), &rule::UNDEFINED_VAR, 3);
        report(&whole.with_comments(&comments), &rule::STAGE_NAME_CASING, 1);
        assert_eq!(*told.lock(), [casing]);
        assert_eq!(whole.finish(), Err(BrokenRules(vec!["StageNameCasing"])));
    }

    #[test]
    fn a_silent_linter_finds_nothing() {
        let linter = Linter::silent();
        linter.report(Violation { rule: &rule::UNDEFINED_VAR, message: String::new() }, &[]);
        assert_eq!(linter.finish(), Ok(()));
    }
}
