//! `docs/packages.toml`: what became of every package of the original.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use crate::workspace::{Workspace, table};

const FILE: &str = "docs/packages.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ledger {
    #[expect(dead_code, reason = "for readers")]
    reference: String,
    packages: BTreeMap<String, Fate>,
    own: BTreeMap<String, String>,
}

/// What became of a package; exactly one of these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Fate {
    /// Directory of the crate that has its job.
    Crate(String),
    /// Directory of the crate that it is a part of.
    Module(String),
    Replaced(String),
    Absent(String),
    Later(bool),
}

/// Holds the ledger against the workspace.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let ledger: Ledger = table(&workspace.root.join(FILE))?
        .try_into()
        .with_context(|| format!("Failed to understand `{FILE}`"))?;
    let crates = workspace.crates.iter().map(|krate| krate.dir.as_str()).collect();
    Ok(findings(&ledger, &crates))
}

fn findings(ledger: &Ledger, crates: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut homes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (package, fate) in &ledger.packages {
        let text = match fate {
            Fate::Crate(dir) | Fate::Module(dir) if !crates.contains(dir.as_str()) => {
                format!("`{package}` has its home in `{dir}`, which is no crate of the workspace")
            }
            Fate::Crate(dir) => {
                homes.entry(dir).or_default().push(package);
                continue;
            }
            Fate::Replaced(why) | Fate::Absent(why) if why.trim().is_empty() => {
                format!("`{package}` needs a reason")
            }
            Fate::Later(false) => format!("`{package}` is `later = false`, which says nothing"),
            Fate::Later(true) if crates.contains(package.as_str()) => {
                format!("`{package}` is said to come later and is there")
            }
            _ => continue,
        };
        findings.push(Finding::new(FILE, text));
    }
    for (dir, why) in &ledger.own {
        homes.entry(dir).or_default().push("own");
        if !crates.contains(dir.as_str()) {
            findings.push(Finding::new(FILE, format!("`{dir}` is no crate of the workspace")));
        }
        if why.trim().is_empty() {
            findings.push(Finding::new(FILE, format!("`{dir}` needs a reason")));
        }
    }
    for dir in crates {
        match homes.get(dir).map(Vec::as_slice) {
            Some([_]) => {}
            None | Some([]) => findings.push(Finding::new(FILE, format!("the crate `{dir}` is not listed"))),
            Some(many) => {
                findings
                    .push(Finding::new(FILE, format!("the crate `{dir}` is listed for {}", many.join(", "))));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, crates: &[&str]) -> Vec<String> {
        let ledger: Ledger = toml::from_str(&format!("reference = \"x\"\n{text}")).unwrap();
        findings(&ledger, &crates.iter().copied().collect()).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_true_ledger_passes() {
        let text = r#"
            [packages]
            "a" = { crate = "a" }
            "a/b" = { module = "a" }
            "c" = { later = true }
            "d" = { replaced = "std" }
            [own]
            "e" = "an example"
        "#;
        assert_eq!(check(text, &["a", "e"]), [""; 0]);
    }

    #[test]
    fn each_lie_is_found() {
        let text = r#"
            [packages]
            "a" = { crate = "a" }
            "b" = { crate = "a" }
            "c" = { module = "gone" }
            "d" = { later = true }
            "e" = { absent = " " }
            [own]
            "x" = "an example"
        "#;
        assert_eq!(
            check(text, &["a", "d"]),
            [
                "`c` has its home in `gone`, which is no crate of the workspace",
                "`d` is said to come later and is there",
                "`e` needs a reason",
                "`x` is no crate of the workspace",
                "the crate `a` is listed for a, b",
                "the crate `d` is not listed",
            ]
        );
    }

    #[test]
    fn a_package_has_one_fate() {
        assert!(toml::from_str::<BTreeMap<String, Fate>>(r#""a" = { crate = "a", later = true }"#).is_err());
    }
}
