use std::collections::BTreeSet;

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_gotext::{parse_bool, quoted};

/// What a linter heeds, as `# check=…` in a file or the build argument `BUILDKIT_DOCKERFILE_CHECK` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Rules that nobody wants to hear of.
    pub skip: RuleSet,
    /// Experimental rules that are heeded.
    pub experimental: RuleSet,
    /// Whether a broken rule fails the build.
    pub error: bool,
}

/// Some rules, by name. Names that no rule has do no harm: other versions may have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Every rule.
    pub all: bool,
    /// These rules.
    pub names: BTreeSet<String>,
}

impl RuleSet {
    /// Takes `all`, or names with commas between them in place of those that were named before.
    fn set(&mut self, text: &str) {
        match text.trim() {
            "all" => self.all = true,
            names => self.names = names.split(',').map(|name| name.trim().to_owned()).collect(),
        }
    }

    /// Whether a rule is one of them.
    pub fn contains(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    fn add(&mut self, other: &Self) {
        self.all |= other.all;
        self.names.extend(other.names.iter().cloned());
    }
}

/// Why a configuration cannot be understood. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such option, or it has no value.
    #[error("invalid check option {}", quoted(.0))]
    Option(String),
    /// The value of `error` is no truth value.
    #[error(
        "failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax",
        quoted(.option),
        quoted(.value)
    )]
    Bool {
        /// The whole option.
        option: String,
        /// Its value.
        value: String,
    },
}

impl Classify for ConfigError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Config {
    /// Reads `skip=A,B;error=true;experimental=all`; nothing is the default.
    ///
    /// # Errors
    /// When an option is not known or has no sense.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(config);
        }
        for option in text.splitn(3, ';') {
            let (name, value) =
                option.split_once('=').ok_or_else(|| ConfigError::Option(option.to_owned()))?;
            match name.trim() {
                "skip" => config.skip.set(value),
                "experimental" => config.experimental.set(value),
                "error" => {
                    config.error = parse_bool(value.trim()).ok_or_else(|| ConfigError::Bool {
                        option: option.to_owned(),
                        value: value.trim().to_owned(),
                    })?;
                }
                name => return Err(ConfigError::Option(name.to_owned())),
            }
        }
        Ok(config)
    }

    /// What the first comment with `check=` above an instruction says; `None` when there is none or it cannot be
    /// understood, which is no error there. Comments are without `#`.
    pub(crate) fn of_comments(comments: &[String]) -> Option<Self> {
        let value = comments.iter().find_map(|comment| check_directive(comment))?;
        Self::parse(value.split(' ').next().unwrap_or_default()).ok()
    }

    /// Adds the rules that another one names. Whether broken rules are errors stays.
    pub(crate) fn add(&mut self, other: &Self) {
        self.skip.add(&other.skip);
        self.experimental.add(&other.experimental);
    }
}

/// The value of a comment that reads as the directive `check`.
fn check_directive(comment: &str) -> Option<&str> {
    let blank = |c: char| matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ');
    let (name, value) = comment.trim_start().split_once('=')?;
    let value = value.trim_matches(blank);
    (name.trim_end_matches(blank).eq_ignore_ascii_case("check") && !value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(names: &[&str]) -> RuleSet {
        RuleSet { all: false, names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn options_are_read() {
        let all = RuleSet { all: true, ..RuleSet::default() };
        for (text, skip, experimental, error) in [
            ("", RuleSet::default(), RuleSet::default(), false),
            (" skip = A , B ; error = T ", rules(&["A", "B"]), RuleSet::default(), true),
            ("skip=all;experimental=all;error=0", all.clone(), all.clone(), false),
            ("experimental=X", RuleSet::default(), rules(&["X"]), false),
            ("skip=", rules(&[""]), RuleSet::default(), false),
            ("skip=A;skip=B", rules(&["B"]), RuleSet::default(), false),
            ("skip=A;skip=all", RuleSet { all: true, ..rules(&["A"]) }, RuleSet::default(), false),
            ("skip=all,A", rules(&["all", "A"]), RuleSet::default(), false),
        ] {
            assert_eq!(Config::parse(text), Ok(Config { skip, experimental, error }), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_options_is_told() {
        for (text, error) in [
            ("skip", "invalid check option \"skip\""),
            ("skip=A;", "invalid check option \"\""),
            ("other = 1", "invalid check option \"other\""),
            (
                "skip=A;error= maybe",
                "failed to parse check option \"error= maybe\": strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            ("skip=A;error=1;experimental=B;skip=C", "experimental=B;skip=C"),
        ] {
            match Config::parse(text) {
                Err(found) => assert_eq!(found.to_string(), error, "{text}"),
                // What follows the second semicolon is one option.
                Ok(config) => assert_eq!(config.experimental, rules(&["B;skip=C"]), "{text}"),
            }
        }
    }

    #[test]
    fn comments_are_read() {
        let of = |comments: &[&str]| {
            let comments: Vec<String> = comments.iter().map(|comment| (*comment).to_owned()).collect();
            Config::of_comments(&comments).map(|config| config.skip)
        };
        assert_eq!(of(&["about it", " Check = skip=A,B and more", "check=skip=C"]), Some(rules(&["A", "B"])));
        assert_eq!(of(&["check=skip"]), None);
        assert_eq!(of(&["checks=skip=A", "check", "check="]), None);
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z=;, \\PC]{0,40}") {
            let _ = Config::parse(&text);
            let _ = Config::of_comments(&[text]);
        }
    }
}
