use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_sourcepolicy_pb::{Policy, PolicyAction};

use crate::Error;
use crate::selector::Selector;

/// Most rules of the policies of one engine.
pub const MAX_RULES: usize = 10_000;

/// Most regular expressions in the rules of one engine.
pub const MAX_REGEXES: usize = 256;

/// Most bytes of an identifier, of a rule's or of one that a rule makes, and of an attribute.
pub const MAX_IDENTIFIER: usize = 64 << 10;

/// How often rules may change one source.
pub const MAX_CHANGES: usize = 20;

/// What rules are about: a source as graphs name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// `scheme://reference`.
    pub identifier: String,
    /// Its options.
    pub attrs: BTreeMap<String, String>,
}

impl Source {
    /// A source without options.
    pub fn new(identifier: impl Into<String>) -> Self {
        Self { identifier: identifier.into(), attrs: BTreeMap::new() }
    }
}

/// The rules of some policies. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    policies: Vec<Arc<[CompiledRule]>>,
}

#[derive(Debug)]
struct CompiledRule {
    action: i32,
    selector: Selector,
    updates: Option<Updates>,
}

#[derive(Debug)]
struct Updates {
    identifier: String,
    attrs: BTreeMap<String, String>,
}

impl Engine {
    /// Takes policies, which are asked in this order.
    ///
    /// # Errors
    /// When a rule is about nothing, or there are more or larger ones than make sense.
    pub fn new<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Result<Self, Error> {
        let (mut rules, mut regexes) = (0, 0);
        let mut compiled = Vec::new();
        for policy in policies {
            rules += policy.rules.len();
            if rules > MAX_RULES {
                return Err(Error::TooLarge(format!(
                    "Source policy has {rules} rules, at most {MAX_RULES} are allowed"
                )));
            }
            let rules = policy.rules.iter().map(compile).collect::<Result<Arc<[_]>, _>>()?;
            regexes += rules.iter().map(|rule| rule.selector.regexes()).sum::<usize>();
            if regexes > MAX_REGEXES {
                return Err(Error::TooLarge(format!(
                    "Source policy has {regexes} regular expressions, at most {MAX_REGEXES} are allowed"
                )));
            }
            if !rules.is_empty() {
                compiled.push(rules);
            }
        }
        Ok(Self { policies: compiled })
    }

    /// The policies of this one, and after them those of another.
    #[must_use]
    pub fn then(&self, other: &Self) -> Self {
        Self { policies: self.policies.iter().chain(&other.policies).cloned().collect() }
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Decides about a source; gives back whether rules have changed it.
    ///
    /// # Errors
    /// When a rule denies it, when rules change it without an end, or when a rule makes no sense.
    pub fn evaluate(&self, source: &mut Source) -> Result<bool, Error> {
        if self.is_empty() {
            return Ok(false);
        }
        if source.identifier.len() > MAX_IDENTIFIER {
            return Err(Error::TooLarge(format!(
                "Identifier of a source has {} bytes, at most {MAX_IDENTIFIER} are allowed",
                source.identifier.len()
            )));
        }
        for changes in 0..=MAX_CHANGES {
            if !self.evaluate_once(source)? {
                return Ok(changes > 0);
            }
        }
        Err(Error::TooManyChanges)
    }

    /// Goes through the policies until one changes the source.
    fn evaluate_once(&self, source: &mut Source) -> Result<bool, Error> {
        for policy in &self.policies {
            if evaluate(policy, source)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn compile(rule: &buildkit_sourcepolicy_pb::Rule) -> Result<CompiledRule, Error> {
    let selector =
        rule.selector.as_ref().ok_or_else(|| Error::Invalid("invalid nil selector in policy".to_owned()))?;
    let selector = Selector::new(selector);
    let updates = rule
        .updates
        .as_ref()
        .map(|updates| Updates { identifier: updates.identifier.clone(), attrs: updates.attrs.clone() });
    let of_updates = updates.iter().flat_map(|updates| {
        let attrs = updates.attrs.iter().flat_map(|(key, value)| [key.len(), value.len()]);
        attrs.chain([updates.identifier.len()])
    });
    let longest = of_updates.chain([selector.longest()]).max().unwrap_or_default();
    if longest > MAX_IDENTIFIER {
        return Err(Error::TooLarge(format!(
            "Rule of a source policy has a text of {longest} bytes, at most {MAX_IDENTIFIER} are allowed"
        )));
    }
    Ok(CompiledRule { action: rule.action, selector, updates })
}

/// Goes through the rules of one policy, to the end or until one changes the source.
fn evaluate(rules: &[CompiledRule], source: &mut Source) -> Result<bool, Error> {
    let mut is_denied = false;
    for rule in rules {
        if !rule.selector.matches(&source.identifier, &source.attrs).map_err(Error::Match)? {
            continue;
        }
        match PolicyAction::try_from(rule.action) {
            Ok(PolicyAction::Allow) => is_denied = false,
            Ok(PolicyAction::Deny) => is_denied = true,
            Ok(PolicyAction::Convert) => {
                if convert(rule, source).map_err(Error::Convert)? {
                    return Ok(true);
                }
            }
            Err(_) => {
                return Err(Error::UnknownAction {
                    action: rule.action,
                    selector: rule.selector.identifier.clone(),
                    identifier: source.identifier.clone(),
                });
            }
        }
    }
    if is_denied { Err(Error::Denied { identifier: source.identifier.clone() }) } else { Ok(false) }
}

/// Puts what a rule says in the place of a source; whether that is something else.
fn convert(rule: &CompiledRule, source: &mut Source) -> Result<bool, String> {
    let updates = rule.updates.as_ref().ok_or("missing destination for convert rule")?;
    let mut has_changed = false;
    // Without an identifier only attributes change.
    if !updates.identifier.is_empty() {
        let made = rule
            .selector
            .format(&source.identifier, &updates.identifier)
            .map_err(|error| format!("error formatting destination: {error}"))?;
        if !made.is_empty() && made != source.identifier {
            source.identifier = made;
            has_changed = true;
        }
    }
    for (key, value) in &updates.attrs {
        // One that is not there is the same as an empty one to selectors, and to sources.
        if source.attrs.get(key).map_or("", String::as_str) != value {
            source.attrs.insert(key.clone(), value.clone());
            has_changed = true;
        }
    }
    Ok(has_changed)
}
