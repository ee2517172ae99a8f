//! `layers.toml`: arrows between crates point down.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use crate::workspace::{Kind, Workspace, table};

/// The file itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layers {
    /// From the bottom up.
    layer: Vec<Layer>,
    test_only: Group,
    leaf: Group,
    forbidden: Vec<Forbidden>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    #[expect(dead_code, reason = "for readers")]
    holds: String,
    crates: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    crates: Vec<String>,
}

/// `from` must not reach `to`, however long the way.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forbidden {
    from: String,
    to: String,
    because: String,
}

/// Directories of crates to those that they depend on, dev dependencies apart.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Holds the manifests against `layers.toml`.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let layers: Layers = table(&workspace.root.join("layers.toml"))?
        .try_into()
        .context("Failed to understand `layers.toml`")?;
    let edges: Edges = workspace
        .crates
        .iter()
        .map(|krate| {
            let to = krate.dependencies.iter().filter(|dependency| dependency.kind != Kind::Dev);
            (krate.dir.clone(), to.filter_map(|dependency| dependency.dir.clone()).collect())
        })
        .collect();
    Ok(findings(&layers, &edges))
}

fn findings(layers: &Layers, edges: &Edges) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut level: BTreeMap<&str, usize> = BTreeMap::new();
    let test_only: BTreeSet<&str> = layers.test_only.crates.iter().map(String::as_str).collect();
    let leaf: BTreeSet<&str> = layers.leaf.crates.iter().map(String::as_str).collect();
    let layered =
        layers.layer.iter().enumerate().flat_map(|(at, layer)| layer.crates.iter().map(move |dir| (dir, at)));
    for (dir, at) in layered {
        if level.insert(dir, at).is_some() {
            findings.push(Finding::new("layers.toml", format!("`{dir}` is in two layers")));
        }
    }
    for dir in test_only.iter().chain(&leaf) {
        if level.contains_key(dir) || (test_only.contains(dir) && leaf.contains(dir)) {
            findings.push(Finding::new(
                "layers.toml",
                format!("`{dir}` is in a layer and in a group, or in two groups"),
            ));
        }
    }
    for dir in level.keys().chain(&test_only).chain(&leaf).filter(|dir| !edges.contains_key(**dir)) {
        findings.push(Finding::new("layers.toml", format!("`{dir}` is no crate of the workspace")));
    }
    for (from, targets) in edges {
        let place = format!("{from}/Cargo.toml");
        let known = level.contains_key(from.as_str())
            || test_only.contains(from.as_str())
            || leaf.contains(from.as_str());
        if !known {
            findings.push(Finding::new("layers.toml", format!("`{from}` has no layer")));
        }
        for to in targets {
            if leaf.contains(to.as_str()) {
                findings.push(Finding::new(&place, format!("nothing may depend on `{to}`, which is a leaf")));
            } else if test_only.contains(to.as_str()) && !test_only.contains(from.as_str()) {
                findings.push(Finding::new(&place, format!("`{to}` is for tests: a dev dependency")));
            } else if let (Some(above), Some(below)) = (level.get(from.as_str()), level.get(to.as_str()))
                && above <= below
            {
                findings.push(Finding::new(
                    &place,
                    format!("`{from}` is in layer {above} and must not depend on `{to}` in layer {below}"),
                ));
            }
        }
    }
    for rule in &layers.forbidden {
        for from in edges
            .keys()
            .filter(|dir| matches(&rule.from, dir) && !matches(&rule.to, dir) && !leaf.contains(dir.as_str()))
        {
            if let Some(way) = way(edges, from, &rule.to) {
                findings.push(Finding::new(
                    format!("{from}/Cargo.toml"),
                    format!("`{from}` must not reach `{}`, {}: {}", rule.to, rule.because, way.join(" -> ")),
                ));
            }
        }
    }
    findings
}

/// Whether a directory is meant by `a/b` (itself), `a/**` (itself and all below) or `**` (all).
fn matches(pattern: &str, dir: &str) -> bool {
    match pattern.strip_suffix("**") {
        None => pattern == dir,
        Some(prefix) => dir.starts_with(prefix) || prefix.strip_suffix('/') == Some(dir),
    }
}

/// A shortest way from `from` to a crate that `to` means.
fn way(edges: &Edges, from: &str, to: &str) -> Option<Vec<String>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = std::collections::VecDeque::from([vec![from.to_owned()]]);
    while let Some(way) = ways.pop_front() {
        for next in edges.get(way.last()?)? {
            let mut way = way.clone();
            way.push(next.clone());
            if matches(to, next) {
                return Some(way);
            }
            if seen.insert(next) && edges.contains_key(next) {
                ways.push_back(way);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        layer = [
            { holds = "bottom", crates = ["a", "a/x"] },
            { holds = "middle", crates = ["b", "c"] },
            { holds = "top", crates = ["d", "cmd/d"] },
        ]
        test_only = { crates = ["t"] }
        leaf = { crates = ["cmd/tool"] }
        forbidden = [{ from = "d", to = "a/**", because = "they do not know each other" }]
    "#;

    fn check(edges: &[(&str, &[&str])]) -> Vec<String> {
        let layers: Layers = toml::from_str(FILE).unwrap();
        let mut all: Edges = ["a", "a/x", "b", "c", "d", "cmd/d", "t", "cmd/tool"]
            .map(|dir| (dir.to_owned(), BTreeSet::new()))
            .into();
        for (from, to) in edges {
            all.insert((*from).to_owned(), to.iter().map(|to| (*to).to_owned()).collect());
        }
        findings(&layers, &all).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_down_are_fine() {
        assert_eq!(
            check(&[("b", &["a"]), ("cmd/d", &["b", "c"]), ("t", &["cmd/d"]), ("cmd/tool", &["a"])]),
            [""; 0]
        );
    }

    #[test]
    fn arrows_up_or_level_are_found() {
        assert_eq!(
            check(&[("b", &["c"]), ("a", &["d"])]),
            [
                "a/Cargo.toml: `a` is in layer 0 and must not depend on `d` in layer 2",
                "b/Cargo.toml: `b` is in layer 1 and must not depend on `c` in layer 1",
            ]
        );
    }

    #[test]
    fn test_crates_and_leaves_are_not_shipped() {
        assert_eq!(
            check(&[("b", &["t"]), ("c", &["cmd/tool"])]),
            [
                "b/Cargo.toml: `t` is for tests: a dev dependency",
                "c/Cargo.toml: nothing may depend on `cmd/tool`, which is a leaf",
            ]
        );
    }

    #[test]
    fn forbidden_pairs_are_followed_through_others() {
        assert_eq!(
            check(&[("d", &["b"]), ("b", &["a/x"])]),
            ["d/Cargo.toml: `d` must not reach `a/**`, they do not know each other: d -> b -> a/x"]
        );
    }

    #[test]
    fn unknown_crates_are_found() {
        assert_eq!(check(&[("new", &[])]), ["layers.toml: `new` has no layer"]);
    }

    #[test]
    fn patterns_mean_directories() {
        assert!(matches("a/**", "a") && matches("a/**", "a/b/c") && matches("**", "z"));
        assert!(!matches("a/**", "ab") && !matches("a", "a/b"));
    }
}
