use std::collections::BTreeMap;

use buildkit_errdefs::{Classify, Kind};
use serde_json::Value;

use crate::{AttrConstraint, AttrMatch, MatchType, Policy, PolicyAction, Rule, Selector, Update};

/// Why a text is no source policy.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is no JSON.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// A field is not what it has to be.
    #[error("{at}: {reason}")]
    Field {
        /// Where it stands, such as `rules[0].selector`.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Classify for JsonError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

type Result<T> = std::result::Result<T, JsonError>;

/// Reads a policy in JSON.
///
/// Values of enums are names (`"DENY"`) or numbers. As in Go, names of fields are in any case, fields that are not
/// known are passed over, and `null` is the same as nothing; protobuf's own spelling `matchType` is understood
/// beside `match_type`.
///
/// # Errors
/// When it is no JSON, or a field has a value that makes no sense there.
pub fn from_json(json: &[u8]) -> Result<Policy> {
    let value: Value = serde_json::from_slice(json)?;
    let policy = Node { at: String::new(), value: Some(&value) };
    Ok(Policy {
        version: policy.field(&["version"])?.integer()?,
        rules: policy.field(&["rules"])?.each(rule)?,
    })
}

fn rule(rule: &Node<'_>) -> Result<Rule> {
    let action = rule.field(&["action"])?;
    Ok(Rule {
        action: action
            .enumeration("PolicyAction", |name| PolicyAction::from_str_name(name).map(i32::from))?,
        selector: rule.field(&["selector"])?.message(selector)?,
        updates: rule.field(&["updates"])?.message(|updates| {
            Ok(Update {
                identifier: updates.field(&["identifier"])?.text()?,
                attrs: updates.field(&["attrs"])?.texts()?,
            })
        })?,
    })
}

fn selector(selector: &Node<'_>) -> Result<Selector> {
    let match_type = selector.field(&["match_type", "matchType"])?;
    Ok(Selector {
        identifier: selector.field(&["identifier"])?.text()?,
        match_type: match_type
            .enumeration("MatchType", |name| MatchType::from_str_name(name).map(i32::from))?,
        constraints: selector.field(&["constraints"])?.each(|constraint| {
            let condition = constraint.field(&["condition"])?;
            Ok(AttrConstraint {
                key: constraint.field(&["key"])?.text()?,
                value: constraint.field(&["value"])?.text()?,
                condition: condition
                    .enumeration("AttrMatch", |name| AttrMatch::from_str_name(name).map(i32::from))?,
            })
        })?,
    })
}

/// A value and where it stands. One that is missing has the default of whatever it is read as.
struct Node<'a> {
    at: String,
    value: Option<&'a Value>,
}

impl<'a> Node<'a> {
    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T> {
        let at = if self.at.is_empty() { "policy" } else { &self.at };
        Err(JsonError::Field { at: at.to_owned(), reason: reason.into() })
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        self.wrong(format!("expected {what}"))
    }

    /// A field of an object, by one of its names; of several the last counts.
    fn field(&self, names: &[&str]) -> Result<Node<'a>> {
        let fields = match self.value {
            None => None,
            Some(Value::Object(fields)) => Some(fields),
            Some(_) => return self.expected("an object"),
        };
        let is_it = |key: &str| names.iter().any(|name| name.eq_ignore_ascii_case(key));
        let value =
            fields.into_iter().flatten().filter(|(key, _)| is_it(key)).map(|(_, value)| value).next_back();
        let name = names.first().copied().unwrap_or_default();
        let at = if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) };
        Ok(Node { at, value: value.filter(|value| !value.is_null()) })
    }

    fn message<T>(&self, read: impl FnOnce(&Self) -> Result<T>) -> Result<Option<T>> {
        self.value.map(|_| read(self)).transpose()
    }

    fn each<T>(&self, read: impl Fn(&Node<'a>) -> Result<T>) -> Result<Vec<T>> {
        let items = match self.value {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return self.expected("a list"),
        };
        let items = items.iter().enumerate();
        items
            .map(|(index, value)| {
                let item = Node { at: format!("{}[{index}]", self.at), value: Some(value) };
                // Of a list, an item that is not there is no item of default values.
                if value.is_null() { item.expected("an object") } else { read(&item) }
            })
            .collect()
    }

    fn text(&self) -> Result<String> {
        match self.value {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => self.expected("a text"),
        }
    }

    fn texts(&self) -> Result<BTreeMap<String, String>> {
        let texts = match self.value {
            None => return Ok(BTreeMap::new()),
            Some(Value::Object(texts)) => texts,
            Some(_) => return self.expected("an object"),
        };
        let texts = texts.iter();
        texts
            .map(|(key, value)| {
                let value = Some(value).filter(|value| !value.is_null());
                Ok((key.clone(), Node { at: format!("{}.{key}", self.at), value }.text()?))
            })
            .collect()
    }

    fn integer(&self) -> Result<i64> {
        match self.value {
            None => Ok(0),
            Some(value) => value.as_i64().map_or_else(|| self.expected("an integer"), Ok),
        }
    }

    fn enumeration(&self, kind: &str, of_name: impl Fn(&str) -> Option<i32>) -> Result<i32> {
        let number = match self.value {
            None => return Ok(0),
            Some(Value::String(name)) => {
                let unknown = || self.wrong(format!("unrecognized enum {kind} value {name:?}"));
                return of_name(name).map_or_else(unknown, Ok);
            }
            Some(value) => value.as_i64(),
        };
        let Some(number) = number else { return self.expected("the name of a value, or its number") };
        // All of these enums have three values, from zero on.
        let known = i32::try_from(number).ok().filter(|number| (0..=2).contains(number));
        known.map_or_else(|| self.wrong(format!("invalid {kind} value: {number}")), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let policy = from_json(
            br#"{"version": 1, "unknown": [], "rules": [
                {"action": "DENY", "selector": {"identifier": "docker-image://*", "matchType": 0}},
                {"Action": 2, "selector": {"identifier": "a", "match_type": "REGEX", "constraints": [
                    {"key": "k", "value": "v", "condition": "MATCHES"}, {"key": "k", "condition": 1}
                ]}, "updates": {"identifier": "b", "attrs": {"k": "v", "n": null}}},
                {"selector": null, "updates": null}
            ]}"#,
        )
        .expect("a policy");
        assert_eq!(policy.version, 1);
        let [deny, convert, nothing] = &policy.rules[..] else { panic!("{policy:?}") };
        assert_eq!((deny.action(), deny.updates.is_none()), (PolicyAction::Deny, true));
        assert_eq!(deny.selector.as_ref().expect("selector").match_type(), MatchType::Wildcard);
        assert_eq!(convert.action(), PolicyAction::Convert);
        let selector = convert.selector.as_ref().expect("selector");
        assert_eq!(selector.match_type(), MatchType::Regex);
        let conditions: Vec<_> = selector.constraints.iter().map(AttrConstraint::condition).collect();
        assert_eq!(conditions, [AttrMatch::Matches, AttrMatch::Notequal]);
        let updates = convert.updates.as_ref().expect("updates");
        assert_eq!((updates.identifier.as_str(), updates.attrs["k"].as_str()), ("b", "v"));
        assert_eq!(updates.attrs["n"], "");
        assert_eq!(*nothing, Rule::default());
        assert_eq!(from_json(b"{}").expect("a policy"), Policy::default());
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for (json, text) in [
            ("[]", "policy: expected an object"),
            (r#"{"rules": {}}"#, "rules: expected a list"),
            (r#"{"rules": [null]}"#, "rules[0]: expected an object"),
            (r#"{"version": "1"}"#, "version: expected an integer"),
            (
                r#"{"rules": [{"action": "MAYBE"}]}"#,
                "rules[0].action: unrecognized enum PolicyAction value \"MAYBE\"",
            ),
            (r#"{"rules": [{"action": 3}]}"#, "rules[0].action: invalid PolicyAction value: 3"),
            (
                r#"{"rules": [{"action": 0.5}]}"#,
                "rules[0].action: expected the name of a value, or its number",
            ),
            (
                r#"{"rules": [{}, {"selector": {"identifier": 1}}]}"#,
                "rules[1].selector.identifier: expected a text",
            ),
            (r#"{"rules": [{"updates": {"attrs": {"a": 1}}}]}"#, "rules[0].updates.attrs.a: expected a text"),
            (
                r#"{"rules": [{"selector": {"constraints": [{"condition": -1}]}}]}"#,
                "rules[0].selector.constraints[0].condition: invalid AttrMatch value: -1",
            ),
        ] {
            assert_eq!(from_json(json.as_bytes()).expect_err(json).to_string(), text);
        }
        for json in ["", "{", "{} {}"] {
            assert!(matches!(from_json(json.as_bytes()), Err(JsonError::Syntax(_))), "{json}");
        }
    }
}
