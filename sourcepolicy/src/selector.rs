use std::collections::BTreeMap;
use std::sync::OnceLock;

use buildkit_sourcepolicy_pb::{self as pb, AttrMatch, MatchType};

use crate::engine::MAX_IDENTIFIER;
use crate::pattern::Pattern;
use crate::template::{Group, expand};
use crate::wildcard::Wildcard;

/// What a rule is about.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) identifier: String,
    constraints: Vec<Constraint>,
    matcher: Matcher,
}

#[derive(Debug)]
struct Constraint {
    key: String,
    value: String,
    condition: Condition,
}

#[derive(Debug)]
enum Condition {
    Equal,
    NotEqual,
    Matches(LazyPattern),
    Unknown(i32),
}

#[derive(Debug)]
enum Matcher {
    Exact,
    Wildcard(Result<Wildcard, String>),
    Regex(LazyPattern),
    Unknown(i32),
}

/// Compiled when it is needed: an expression that makes no sense is an error of those sources only that it is asked
/// about.
#[derive(Debug, Default)]
struct LazyPattern(OnceLock<Result<Pattern, String>>);

impl LazyPattern {
    fn get(&self, text: &str) -> Result<&Pattern, String> {
        self.0.get_or_init(|| Pattern::parse(text)).as_ref().map_err(Clone::clone)
    }
}

impl Selector {
    pub(crate) fn new(selector: &pb::Selector) -> Self {
        let matcher = match MatchType::try_from(selector.match_type) {
            Ok(MatchType::Exact) => Matcher::Exact,
            Ok(MatchType::Wildcard) => Matcher::Wildcard(Wildcard::parse(&selector.identifier)),
            Ok(MatchType::Regex) => Matcher::Regex(LazyPattern::default()),
            Err(_) => Matcher::Unknown(selector.match_type),
        };
        let constraint = |constraint: &pb::AttrConstraint| Constraint {
            key: constraint.key.clone(),
            value: constraint.value.clone(),
            condition: match AttrMatch::try_from(constraint.condition) {
                Ok(AttrMatch::Equal) => Condition::Equal,
                Ok(AttrMatch::Notequal) => Condition::NotEqual,
                Ok(AttrMatch::Matches) => Condition::Matches(LazyPattern::default()),
                Err(_) => Condition::Unknown(constraint.condition),
            },
        };
        Self {
            identifier: selector.identifier.clone(),
            constraints: selector.constraints.iter().map(constraint).collect(),
            matcher,
        }
    }

    /// Number of regular expressions in it.
    pub(crate) fn regexes(&self) -> usize {
        let constraints = self.constraints.iter();
        let constraints =
            constraints.filter(|constraint| matches!(constraint.condition, Condition::Matches(_)));
        constraints.count() + usize::from(matches!(self.matcher, Matcher::Regex(_)))
    }

    /// Most bytes of one of its texts.
    pub(crate) fn longest(&self) -> usize {
        let constraints = self.constraints.iter();
        let lengths = constraints.flat_map(|constraint| [constraint.key.len(), constraint.value.len()]);
        lengths.chain([self.identifier.len()]).max().unwrap_or_default()
    }

    pub(crate) fn matches(&self, identifier: &str, attrs: &BTreeMap<String, String>) -> Result<bool, String> {
        for Constraint { key, value, condition } in &self.constraints {
            let actual = attrs.get(key).map_or("", String::as_str);
            let holds = match condition {
                Condition::Equal => actual == value,
                Condition::NotEqual => actual != value,
                Condition::Matches(pattern) => pattern
                    .get(value)
                    .map_err(|error| format!("invalid regex {value:?}: {error}"))?
                    .matches(actual),
                Condition::Unknown(number) => return Err(format!("unknown attr condition: {number}")),
            };
            if !holds {
                return Ok(false);
            }
        }
        if self.identifier == identifier {
            return Ok(true);
        }
        match &self.matcher {
            Matcher::Exact => Ok(false),
            Matcher::Wildcard(wildcard) => {
                Ok(wildcard.as_ref().map_err(Clone::clone)?.groups(identifier).is_some())
            }
            Matcher::Regex(pattern) => Ok(pattern.get(&self.identifier)?.matches(identifier)),
            Matcher::Unknown(number) => Err(format!("unknown match type: {number}")),
        }
    }

    /// A template with what matched in an identifier.
    pub(crate) fn format(&self, identifier: &str, template: &str) -> Result<String, String> {
        let made = match &self.matcher {
            Matcher::Exact => return Ok(template.to_owned()),
            Matcher::Unknown(number) => return Err(format!("unknown match type: {number}")),
            Matcher::Regex(pattern) => {
                pattern.get(&self.identifier)?.replace(identifier, template, MAX_IDENTIFIER)
            }
            Matcher::Wildcard(wildcard) => {
                let Some(groups) = wildcard.as_ref().map_err(Clone::clone)?.groups(identifier) else {
                    return Ok(identifier.to_owned());
                };
                let group = |group: Group<'_>| match group {
                    Group::Number(0) => Some(identifier.as_bytes()),
                    Group::Number(number) => groups.get(number - 1).map(|group| group.as_bytes()),
                    Group::Name(_) => None,
                };
                let mut out = Vec::new();
                expand(&mut out, template, group, MAX_IDENTIFIER).map(|()| out)
            }
        };
        let made = made.ok_or_else(|| format!("identifier has more than {MAX_IDENTIFIER} bytes"))?;
        String::from_utf8(made).map_err(|_| "identifier is not UTF-8".to_owned())
    }
}
