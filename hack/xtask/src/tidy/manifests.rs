//! Manifests: versions in the root only, the same lints for all, one sentence each.

use std::collections::BTreeSet;

use super::Finding;
use crate::workspace::{Crate, Workspace, entries};

/// Keys of `[package]` that the root states for all.
const SHARED: [&str; 4] = ["version", "edition", "rust-version", "license"];

const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Checks all manifests.
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings: Vec<Finding> = workspace.crates.iter().flat_map(manifest).collect();
    findings.extend(workspace.crates.iter().filter_map(|krate| sentence(workspace, krate)));
    findings.extend(strays(workspace));
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for krate in &workspace.crates {
        used.extend(TABLES.iter().flat_map(|name| entries(&krate.manifest, &[name]).into_keys()));
    }
    // Crates of the workspace are there for others to use.
    for (name, value) in entries(&workspace.manifest, &["workspace", "dependencies"]) {
        if !used.contains(name) && value.get("path").is_none() {
            findings.push(Finding::new("Cargo.toml", format!("no crate uses `{name}`")));
        }
    }
    findings
}

fn manifest(krate: &Crate) -> Vec<Finding> {
    let inherits = |value: Option<&toml::Value>| {
        value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    let mut texts = Vec::new();
    let package = entries(&krate.manifest, &["package"]);
    for key in SHARED {
        if !inherits(package.get(key).copied()) {
            texts.push(format!("`package.{key}` has to be the workspace's"));
        }
    }
    if !inherits(krate.manifest.get("lints")) {
        texts.push("`lints` have to be the workspace's".to_owned());
    }
    for table in TABLES {
        for (name, value) in entries(&krate.manifest, &[table]) {
            // A crate may test itself with its own features on, and cargo wants a path for that.
            let itself = table == "dev-dependencies" && name == krate.name && value.get("version").is_none();
            if !inherits(Some(value)) && !itself {
                texts.push(format!("the version of `{name}` belongs into the root manifest"));
            }
        }
    }
    texts.into_iter().map(|text| Finding::new(format!("{}/Cargo.toml", krate.dir), text)).collect()
}

/// The description is the first sentence of the crate's documentation.
fn sentence(workspace: &Workspace, krate: &Crate) -> Option<Finding> {
    let root = krate.roots.iter().find(|root| root.ends_with("/lib.rs")).or_else(|| krate.roots.first())?;
    let text = workspace.text(root)?;
    let text = differs(&krate.description, &text)?;
    Some(Finding::new(root, text))
}

fn differs(description: &str, source: &str) -> Option<String> {
    let paragraph: Vec<&str> = source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let said = paragraph.join(" ");
    if said.is_empty() {
        return Some("the first line has to be `//!` and what the crate is for".to_owned());
    }
    if description.is_empty() {
        return Some("the manifest has no description".to_owned());
    }
    (plain(&said) != plain(description))
        .then(|| format!("the crate says `{said}` and its manifest `{description}`"))
}

/// Without marks that only one of the two places needs.
fn plain(text: &str) -> String {
    text.trim_end_matches('.').chars().filter(|c| !matches!(c, '`' | '[' | ']')).collect()
}

/// Manifests that no workspace builds.
fn strays(workspace: &Workspace) -> Vec<Finding> {
    let excluded: Vec<&str> = workspace
        .manifest
        .get("workspace")
        .and_then(|table| table.get("exclude"))
        .and_then(toml::Value::as_array)
        .map(|dirs| dirs.iter().filter_map(toml::Value::as_str).collect())
        .unwrap_or_default();
    let member = |dir: &str| workspace.crates.iter().any(|krate| krate.dir == dir) || excluded.contains(&dir);
    let manifests = workspace.files.iter().filter_map(|file| file.strip_suffix("/Cargo.toml"));
    manifests
        .filter(|dir| !member(dir))
        .map(|dir| Finding::new(format!("{dir}/Cargo.toml"), "not a member of the workspace"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(manifest: &str) -> Crate {
        Crate {
            name: "a".into(),
            dir: "a".into(),
            description: String::new(),
            manifest: manifest.parse().unwrap(),
            dependencies: Vec::new(),
            roots: Vec::new(),
        }
    }

    const GOOD: &str = "
        [package]
        version.workspace = true
        edition.workspace = true
        rust-version.workspace = true
        license.workspace = true
        [lints]
        workspace = true
    ";

    #[test]
    fn what_is_shared_comes_from_the_root() {
        let good = format!(
            "{GOOD}\n[dependencies]\nx = {{ workspace = true, features = [\"y\"] }}\n[dev-dependencies]\na = {{ path = \".\", features = [\"test-util\"] }}"
        );
        assert_eq!(manifest(&krate(&good)), []);
        let bad = "[package]\nversion = \"1\"\nedition.workspace = true\nlicense.workspace = true\n[dev-dependencies]\nx = \"1\"";
        let texts: Vec<String> = manifest(&krate(bad)).into_iter().map(|finding| finding.text).collect();
        assert_eq!(
            texts,
            [
                "`package.version` has to be the workspace's",
                "`package.rust-version` has to be the workspace's",
                "`lints` have to be the workspace's",
                "the version of `x` belongs into the root manifest",
            ]
        );
    }

    #[test]
    fn description_is_the_first_sentence() {
        assert_eq!(differs("Does a thing", "//! Does a `thing`.\n//!\n//! More.\n"), None);
        assert_eq!(differs("Does a long thing", "//! Does a\n//! long thing.\nmod x;"), None);
        assert!(differs("Does a thing", "//! Does another.\n").is_some());
        assert!(differs("Does a thing", "mod x;\n").is_some());
        assert!(differs("", "//! Does a thing.\n").is_some());
    }
}
