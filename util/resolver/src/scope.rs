//! Scopes of tokens: what a token is good for (distribution's token scope specification).

use std::collections::{BTreeMap, BTreeSet};

use crate::Access;

/// Scopes of a challenge that are looked at, and bytes of one.
const MAX: (usize, usize) = (16, 512);

/// Actions by resource, such as `repository:a/b`. Merged and sorted, so that the same wish has one form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// What one repository is needed for.
    pub(crate) fn repository(path: &str, access: Access) -> Self {
        let mut scopes = Self::default();
        scopes.add(&format!("repository:{path}"), access.actions());
        scopes
    }

    /// With one repository more to pull from.
    #[must_use]
    pub(crate) fn and_pull(mut self, path: &str) -> Self {
        self.add(&format!("repository:{path}"), Access::Pull.actions());
        self
    }

    fn add(&mut self, resource: &str, actions: &[&str]) {
        let known = self.0.entry(resource.to_owned()).or_default();
        known.extend(actions.iter().map(|action| (*action).to_owned()));
    }

    /// With what a registry says is needed, as far as that may be asked for: nothing of other
    /// repositories, and no action that changes something beyond what is wanted. A registry could
    /// otherwise have tokens made that are good for more than this.
    #[must_use]
    pub(crate) fn with_challenge(mut self, scope: &str, path: &str, access: Access) -> Self {
        for scope in scope.split_ascii_whitespace().take(MAX.0).filter(|scope| scope.len() <= MAX.1) {
            let Some((resource, actions)) = scope.rsplit_once(':') else { continue };
            let Some((kind, name)) = resource.split_once(':') else { continue };
            let is_repository = kind == "repository" || kind.starts_with("repository(");
            // Behind a proxy the registry knows the repository by a longer name.
            let is_ours = name == path || name.strip_suffix(path).is_some_and(|before| before.ends_with('/'));
            if is_repository && !is_ours {
                continue;
            }
            let may = |action: &&str| match *action {
                "pull" | "metadata_read" => true,
                "push" | "metadata_write" => access == Access::Push,
                _ => false,
            };
            let actions: Vec<&str> = actions.split(',').filter(may).collect();
            if !actions.is_empty() {
                self.add(resource, &actions);
            }
        }
        self
    }

    /// As they are asked for.
    pub(crate) fn list(&self) -> Vec<String> {
        let text = |(resource, actions): (&String, &BTreeSet<String>)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        };
        self.0.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_08_least_scope() {
        let pull = Scopes::repository("a/b", Access::Pull);
        assert_eq!(pull.list(), ["repository:a/b:pull"]);
        assert_eq!(Scopes::repository("a/b", Access::Push).list(), ["repository:a/b:pull,push"]);
        assert_eq!(
            Scopes::repository("b", Access::Push).and_pull("a").list(),
            ["repository:a:pull", "repository:b:pull,push"]
        );
        for (challenge, expect) in [
            ("repository:a/b:pull", "repository:a/b:pull"),
            ("repository:a/b:pull,push", "repository:a/b:pull"),
            ("repository:a/b:*", "repository:a/b:pull"),
            ("repository:a/b:metadata_read", "repository:a/b:metadata_read,pull"),
            ("repository:other:pull repository:a/b:delete", "repository:a/b:pull"),
            ("registry:catalog:*", "repository:a/b:pull"),
            ("", "repository:a/b:pull"),
            (":::", "repository:a/b:pull"),
        ] {
            let found = pull.clone().with_challenge(challenge, "a/b", Access::Pull);
            assert_eq!(found.list(), [expect], "{challenge}");
        }
        let proxied = pull.clone().with_challenge("repository:proxy/a/b:pull", "a/b", Access::Pull);
        assert_eq!(proxied.list(), ["repository:a/b:pull", "repository:proxy/a/b:pull"]);
        let tail = pull.clone().with_challenge("repository:xa/b:pull", "a/b", Access::Pull);
        assert_eq!(tail, pull);
        let push = Scopes::repository("a/b", Access::Push);
        assert_eq!(push.clone().with_challenge("repository:a/b:push", "a/b", Access::Push), push);
    }
}
