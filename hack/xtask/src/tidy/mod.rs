//! What a compiler does not check: the shape of the workspace.

mod code;
mod layers;
mod ledger;
mod manifests;
mod sources;
mod text;
mod unused;

use std::{fmt, path::Path};

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// A file or directory from the root, perhaps with a line.
    place: String,
    text: String,
}

impl Finding {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Checks the repository at `root`.
#[expect(clippy::print_stderr, reason = "what a task finds is its output")]
pub fn run(root: &Path) -> Result<()> {
    let workspace = Workspace::load(root)?;
    let mut findings = layers::check(&workspace)?;
    findings.extend(ledger::check(&workspace)?);
    findings.extend(manifests::check(&workspace));
    findings.extend(sources::check(&workspace));
    findings.extend(text::check(&workspace));
    findings.extend(unused::check(&workspace));
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(())
}
