use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use buildkit_sourcepolicy_pb::{
    AttrConstraint, AttrMatch, MatchType, Policy, PolicyAction, Rule, Selector, Update,
};
use serde_json::Value;

/// Reads a source policy. Enum values may be names or numbers.
pub(crate) fn read(path: &Path) -> Result<Policy> {
    let json = fs_err::read(path)?;
    let error = || format!("failed to unmarshal source-policy-file {:?}", path.display().to_string());
    let value: Value = serde_json::from_slice(&json).with_context(error)?;
    policy(&value).with_context(error)
}

fn policy(value: &Value) -> Result<Policy> {
    Ok(Policy {
        version: value.get("version").and_then(Value::as_i64).unwrap_or(0),
        rules: items(value, "rules").map(rule).collect::<Result<_>>()?,
    })
}

fn rule(value: &Value) -> Result<Rule> {
    let selector = value.get("selector").filter(|value| !value.is_null()).map(selector).transpose()?;
    let updates = value.get("updates").filter(|value| !value.is_null()).map(|value| Update {
        identifier: text(value, "identifier"),
        attrs: value
            .get("attrs")
            .and_then(Value::as_object)
            .map(|attrs| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                attrs.iter().map(|(key, value)| (key.clone(), text(value))).collect()
            })
            .unwrap_or_else(BTreeMap::new),
    });
    let action = number(value, "action", |name| PolicyAction::from_str_name(name).map(i32::from))?;
    Ok(Rule { action, selector, updates })
}

fn selector(value: &Value) -> Result<Selector> {
    let match_type = ["match_type", "matchType"].iter().find(|key| value.get(**key).is_some());
    Ok(Selector {
        identifier: text(value, "identifier"),
        match_type: number(value, match_type.unwrap_or(&"match_type"), |name| {
            MatchType::from_str_name(name).map(i32::from)
        })?,
        constraints: items(value, "constraints")
            .map(|value| {
                Ok(AttrConstraint {
                    key: text(value, "key"),
                    value: text(value, "value"),
                    condition: number(value, "condition", |name| {
                        AttrMatch::from_str_name(name).map(i32::from)
                    })?,
                })
            })
            .collect::<Result<_>>()?,
    })
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str, of_name: impl Fn(&str) -> Option<i32>) -> Result<i32> {
    let unknown = |value: &Value| anyhow!("unknown {key} {value}");
    match value.get(key) {
        None | Some(Value::Null) => Ok(0),
        Some(value @ Value::String(name)) => of_name(name).ok_or_else(|| unknown(value)),
        Some(value) => {
            value.as_i64().and_then(|number| i32::try_from(number).ok()).ok_or_else(|| unknown(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let json = serde_json::json!({"version": 1, "rules": [
            {"action": "DENY", "selector": {"identifier": "docker-image://*", "matchType": 0}},
            {"action": 2, "selector": {"identifier": "a"},
             "updates": {"identifier": "b", "attrs": {"k": "v"}}},
        ]});
        let policy = policy(&json).expect("fits");
        assert_eq!(policy.rules[0].action, i32::from(PolicyAction::Deny));
        assert_eq!(policy.rules[1].action, i32::from(PolicyAction::Convert));
        assert_eq!(policy.rules[1].updates.as_ref().expect("updates").attrs["k"], "v");
        assert!(rule(&serde_json::json!({"action": "MAYBE"})).is_err());
    }
}
