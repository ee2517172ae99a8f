//! Licences, banned crates and sources of what the lock file names.
//!
//! The rules are in `deny.toml`, in the form that `cargo deny` reads, of which this understands the part that
//! is used there; it needs no tool that has to be installed.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::{Package, packages, table};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    bans: Bans,
    licenses: Licenses,
    sources: Sources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    multiple_versions: String,
    deny: Vec<Ban>,
}

/// A crate that must not come in, in some versions, or not twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Ban {
    name: String,
    /// `<1.2.3`: versions below it.
    version: Option<String>,
    #[serde(default)]
    deny_multiple_versions: bool,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
    allow_registry: Vec<String>,
}

/// Checks the lock file of the repository at `root`.
#[expect(clippy::print_stderr, reason = "what a task finds is its output")]
pub fn run(root: &Path) -> Result<()> {
    let rules: Rules =
        table(&root.join("deny.toml"))?.try_into().context("Failed to understand `deny.toml`")?;
    let findings = check(&rules, &packages(root)?)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(())
}

fn check(rules: &Rules, packages: &[Package]) -> Result<Vec<String>> {
    if rules.bans.multiple_versions != "allow"
        || rules.sources.unknown_registry != "deny"
        || rules.sources.unknown_git != "deny"
    {
        bail!(
            "`deny.toml`: only what is there is understood: several versions are allowed, unknown sources denied"
        );
    }
    let foreign: Vec<&Package> = packages.iter().filter(|package| package.source.is_some()).collect();
    let mut findings = Vec::new();
    for package in &foreign {
        let Package { name, version, license, source } = package;
        if !license.as_deref().is_some_and(|expression| allowed(expression, &rules.licenses.allow)) {
            findings.push(format!("{name} {version}: the licence {license:?} is not allowed"));
        }
        let source = source.as_deref().unwrap_or_default();
        if !source
            .strip_prefix("registry+")
            .is_some_and(|url| rules.sources.allow_registry.iter().any(|known| known == url))
        {
            findings.push(format!("{name} {version}: the source {source:?} is not allowed"));
        }
    }
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in &foreign {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    for ban in &rules.bans.deny {
        let found = versions.get(ban.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        if ban.deny_multiple_versions {
            if found.len() > 1 {
                findings.push(format!("{}: several versions: {}", ban.name, found.join(", ")));
            }
            continue;
        }
        for version in found {
            let hit = match &ban.version {
                None => true,
                Some(range) => {
                    let limit = range.strip_prefix('<').with_context(|| {
                        format!("`deny.toml`: the version {range:?} is not of the form \"<1.2.3\"")
                    })?;
                    numbers(version) < numbers(limit)
                }
            };
            if hit {
                findings.push(format!("{} {version} is banned: {}", ban.name, ban.reason));
            }
        }
    }
    Ok(findings)
}

/// The numbers of a version, for comparing.
fn numbers(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    release.split('.').map(|number| number.trim().parse().unwrap_or(0)).collect()
}

/// Whether an SPDX expression can be met with allowed licences only.
fn allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    either(&words, &mut at, allow) == Some(true) && at == words.len()
}

/// `A OR B`; `None` when it is not an expression.
fn either(words: &[&str], at: &mut usize, allow: &[String]) -> Option<bool> {
    let mut value = both(words, at, allow)?;
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        value |= both(words, at, allow)?;
    }
    Some(value)
}

/// `A AND B`.
fn both(words: &[&str], at: &mut usize, allow: &[String]) -> Option<bool> {
    let mut value = one(words, at, allow)?;
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        value &= one(words, at, allow)?;
    }
    Some(value)
}

/// `( … )`, `A` or `A WITH B`.
fn one(words: &[&str], at: &mut usize, allow: &[String]) -> Option<bool> {
    let word = *words.get(*at)?;
    *at += 1;
    if word == "(" {
        let value = either(words, at, allow)?;
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return closed.then_some(value);
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{word} WITH {}", words.get(*at + 1)?);
        *at += 2;
    }
    Some(allow.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_expressions() {
        let allow = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(String::from);
        let table = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("ISC AND (GPL-3.0 OR MIT)", true),
            ("GPL-3.0 OR MIT AND GPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT )", false),
            ("( MIT", false),
            ("", false),
        ];
        for (expression, expect) in table {
            assert_eq!(allowed(expression, &allow), expect, "{expression}");
        }
    }

    fn package(name: &str, version: &str, source: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            license: Some("MIT".into()),
            source: Some(source.into()),
        }
    }

    #[test]
    fn bans_and_sources_are_checked() {
        let rules: Rules = toml::from_str(
            r#"
            [bans]
            multiple-versions = "allow"
            deny = [
                { name = "bad", reason = "it is bad" },
                { name = "old", version = "<0.4.45", reason = "it was bad" },
                { name = "one", deny-multiple-versions = true },
            ]
            [licenses]
            allow = ["MIT"]
            [sources]
            unknown-registry = "deny"
            unknown-git = "deny"
            allow-registry = ["known"]
            "#,
        )
        .unwrap();
        let packages = [
            package("bad", "1.0.0", "registry+known"),
            package("old", "0.4.9", "registry+known"),
            package("one", "1.0.0", "registry+known"),
            package("one", "2.0.0", "registry+known"),
            package("odd", "1.0.0", "git+elsewhere"),
        ];
        assert_eq!(
            check(&rules, &packages).unwrap(),
            [
                "odd 1.0.0: the source \"git+elsewhere\" is not allowed",
                "bad 1.0.0 is banned: it is bad",
                "old 0.4.9 is banned: it was bad",
                "one: several versions: 1.0.0, 2.0.0",
            ]
        );
        let fine = [package("old", "0.4.45", "registry+known"), package("one", "1.0.0", "registry+known")];
        assert_eq!(check(&rules, &fine).unwrap(), [""; 0]);
    }
}
