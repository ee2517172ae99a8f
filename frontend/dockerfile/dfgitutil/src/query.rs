use buildkit_errdefs::{Classify, Kind};
use buildkit_util_gitutil::Query;
use buildkit_util_gotext::{parse_bool, quoted};

use crate::{GitRef, MTime};

/// What is wanted of a repository makes no sense. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A key that needs a value has none.
    #[error("query {} has no value", quoted(.0))]
    NoValue(String),
    /// A key has several values.
    #[error("query {} has multiple values", quoted(.0))]
    SeveralValues(String),
    /// The fragment or another key says something else.
    #[error("{what} conflicts: {} vs {}", quoted(one), quoted(other))]
    Conflict {
        /// `ref` or `subdir`.
        what: &'static str,
        /// What was said before.
        one: String,
        /// What is said too.
        other: String,
    },
    /// The value of a key is none that it can have.
    #[error("invalid {key} value: {}{}", quoted(value), if key == "mtime" { " (must be \"checkout\" or \"commit\")" } else { "" })]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// There is no such key.
    #[error("unexpected query {}", quoted(.0))]
    Unknown(String),
    /// Both a branch and a tag are asked for.
    #[error("branch conflicts with tag")]
    BranchAndTag,
}

impl Classify for QueryError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl GitRef {
    /// Takes what a query says.
    pub(crate) fn add_query(&mut self, query: Query) -> Result<(), QueryError> {
        let (mut tag, mut branch) = (None, None);
        for (key, values) in query {
            let value = match <[String; 1]>::try_from(values) {
                Ok([value]) => value,
                Err(_) => return Err(QueryError::SeveralValues(key)),
            };
            let flag = || match value.as_str() {
                "" => Ok(true),
                text => parse_bool(text)
                    .ok_or_else(|| QueryError::Value { key: key.clone(), value: value.clone() }),
            };
            match key.as_str() {
                "keep-git-dir" => self.keep_git_dir = Some(flag()?),
                "submodules" => self.submodules = Some(flag()?),
                "fetch-by-commit" => self.fetch_by_commit = flag()?,
                _ if value.is_empty() => return Err(QueryError::NoValue(key)),
                "ref" => agree("ref", &mut self.reference, value)?,
                "subdir" => agree("subdir", &mut self.subdir, value)?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "checksum" | "commit" => self.checksum = value,
                "mtime" => {
                    self.mtime = Some(match value.as_str() {
                        "checkout" => MTime::Checkout,
                        "commit" => MTime::Commit,
                        _ => return Err(QueryError::Value { key, value }),
                    });
                }
                _ => return Err(QueryError::Unknown(key)),
            }
        }
        let has_both = tag.is_some() && branch.is_some();
        self.add_name("refs/tags/", tag)?;
        if has_both {
            return Err(QueryError::BranchAndTag);
        }
        self.add_name("refs/heads/", branch)
    }

    fn add_name(&mut self, prefix: &str, name: Option<String>) -> Result<(), QueryError> {
        let Some(name) = name else { return Ok(()) };
        let name = if name.starts_with(prefix) { name } else { format!("{prefix}{name}") };
        agree("ref", &mut self.reference, name)
    }
}

/// Takes a value unless there is another one already.
fn agree(what: &'static str, known: &mut String, value: String) -> Result<(), QueryError> {
    if !known.is_empty() && *known != value {
        return Err(QueryError::Conflict { what, one: known.clone(), other: value });
    }
    *known = value;
    Ok(())
}
