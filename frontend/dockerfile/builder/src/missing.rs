//! What may have been meant by a path that is not there.

use std::sync::Arc;

use buildkit_errdefs::Kind;
use buildkit_frontend_dockerui::{DockerUi, IgnoreRules};
use buildkit_frontend_gateway_client::{GatewayRef, ReadDir, RemoteError};
use buildkit_util_suggest::nearest;

/// Names that are suggested at most, and listed when none is near.
const SUGGESTED: usize = 3;
const LISTED: usize = 5;

/// Names that are compared at most, of one directory.
const COMPARED: usize = 50_000;

/// How far up the first directory that is there is looked for.
const MAX_ASCENT: usize = 8;

/// Bits of a mode that say what a file is, and those of a directory and a symbolic link (Go's `os.FileMode`).
const MODE_DIR: u32 = 1 << 31;
const MODE_LINK: u32 = 1 << 27;

/// Where a path is missing.
pub(crate) enum Place<'a> {
    /// A directory of the user, with the rules by which files of it are left out.
    Directory { ui: &'a DockerUi, name: String, rules: Option<IgnoreRules> },
    /// A tree of the build.
    Tree(Option<Arc<dyn GatewayRef>>),
}

struct Entry {
    name: String,
    mode: u32,
}

impl Place<'_> {
    /// What is in a directory; nothing if it is empty or not there.
    async fn entries(&self, directory: &str) -> Result<Vec<Entry>, RemoteError> {
        let found = match self {
            Self::Directory { ui, name, .. } => ui.list_directory(name, directory).await,
            Self::Tree(None) => Ok(Vec::new()),
            Self::Tree(Some(tree)) => {
                let request = ReadDir { path: format!("/{directory}"), include_pattern: String::new() };
                match tree.read_dir(request).await {
                    // A file where a directory was expected is told from one that is not there further up.
                    Err(error) if matches!(error.kind, Kind::NotFound | Kind::InvalidArgument) => {
                        Ok(Vec::new())
                    }
                    found => found,
                }
            }
        }?;
        let entries = found.into_iter().take(COMPARED);
        Ok(entries.map(|stat| Entry { name: stat.path, mode: stat.mode }).collect())
    }

    /// The rule that leaves out a path, in words.
    fn hiding(&self, path: &str) -> Option<String> {
        let Self::Directory { rules: Some(rules), .. } = self else { return None };
        let rule = rules.hiding(path)?;
        Some(format!("left out by {}:{}: {}", rules.file, rule.line, shown(&rule.text)))
    }

    /// What to do about a path that is not there; `None` if that cannot be told.
    pub(crate) async fn hint(&self, path: &str) -> Result<Option<String>, RemoteError> {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        for depth in (0..parts.len()).rev().take(MAX_ASCENT) {
            let directory = parts[..depth].join("/");
            let entries = self.entries(&directory).await?;
            if !entries.is_empty() {
                return Ok(self.hint_in(&parts, depth, &entries));
            }
        }
        Ok((parts.len() <= MAX_ASCENT).then(|| match self {
            Self::Directory { name, .. } => format!("the directory given as `{}` is empty", shown(name)),
            Self::Tree(_) => "the tree that it is copied from is empty".to_owned(),
        }))
    }

    /// As [`hint`](Self::hint), with the entries of the lowest directory that has some, in which `parts[depth]` is wanted.
    fn hint_in(&self, parts: &[&str], depth: usize, entries: &[Entry]) -> Option<String> {
        let at = |name: &str| {
            let path: Vec<&str> = parts[..depth].iter().copied().chain([name]).collect();
            path.join("/")
        };
        let wanted = parts[depth];
        if let Some(found) = entries.iter().find(|entry| entry.name == wanted) {
            if let Some(rule) = self.hiding(&parts.join("/")) {
                return Some(format!("/{} is {rule}", shown(&parts.join("/"))));
            }
            let path = at(&found.name);
            let path = shown(&path);
            return match found.mode {
                _ if depth + 1 == parts.len() => None,
                mode if mode & MODE_DIR != 0 => Some(format!("/{path} is empty")),
                mode if mode & MODE_LINK != 0 => {
                    Some(format!("/{path} is a symbolic link to somewhere else"))
                }
                _ => Some(format!("/{path} is not a directory")),
            };
        }
        let visible = || entries.iter().filter(|entry| self.hiding(&at(&entry.name)).is_none());
        let names = || visible().map(|entry| entry.name.as_str());
        let near = nearest(wanted, names(), SUGGESTED);
        if !near.is_empty() {
            let paths: Vec<String> = near.iter().map(|name| format!("/{}", shown(&at(name)))).collect();
            return Some(format!("did you mean {}?", paths.join(" or ")));
        }
        let directory = parts[..depth].join("/");
        let mut listed: Vec<String> = names().take(LISTED).map(shown).collect();
        if listed.is_empty() {
            return Some(format!("all of /{} is left out by an ignore file", shown(&directory)));
        }
        if visible().nth(LISTED).is_some() {
            listed.push("…".to_owned());
        }
        Some(format!("/{} has {}", shown(&directory), listed.join(", ")))
    }
}

/// Text of others on one line of a terminal.
fn shown(text: &str) -> String {
    let safe = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(safe).take(200).collect()
}
