use buildkit_util_gitutil::{GitUrl, Query};
use buildkit_util_gopath::rooted;

use crate::QueryError;

/// A repository, and what is wanted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitRef {
    /// Where it is, in a form that git takes, unless [`looks_local`](Self::looks_local).
    pub remote: String,
    /// Name of the repository: the last part of its path, without `.git`.
    pub short_name: String,
    /// Branch, tag or commit; empty is the default branch.
    pub reference: String,
    /// The commit that the reference must be, or its beginning; may be empty.
    pub checksum: String,
    /// The only folder that is wanted; empty is all.
    pub subdir: String,
    /// It has no scheme (`github.com/…`) and could be a path. Only contexts are named so, and that is
    /// discouraged.
    pub looks_local: bool,
    /// What is transferred is neither encrypted nor authenticated.
    pub unencrypted: bool,
    /// Whether `.git` is wanted, if that is said.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are wanted, if that is said.
    pub submodules: Option<bool>,
    /// What times files get, if that is said.
    pub mtime: Option<MTime>,
    /// The commit in `checksum` is fetched without asking where the reference points.
    pub fetch_by_commit: bool,
}

/// What times files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MTime {
    /// That of the checkout.
    Checkout,
    /// That of the commit.
    Commit,
}

impl MTime {
    /// As the wire has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Commit => "commit",
        }
    }
}

impl GitRef {
    /// Reads a name; `None` if it names no repository.
    ///
    /// It does as `git://…`, `ssh://…` or `user@host:path`, as `http(s)://….git`, or as `github.com/…`. A relative
    /// path never does.
    ///
    /// # Errors
    /// When a repository is named, but what is wanted of it makes no sense.
    pub fn parse(text: &str) -> Option<Result<Self, QueryError>> {
        let (mut git, query) = Self::parse_remote(text)?;
        let last = git.remote.rsplit('/').next().unwrap_or_default();
        last.strip_suffix(".git").unwrap_or(last).clone_into(&mut git.short_name);
        Some(git.add_query(query).map(|()| git))
    }

    fn parse_remote(text: &str) -> Option<(Self, Query)> {
        if text.starts_with("./") || text.starts_with("../") {
            return None;
        }
        if text.starts_with("github.com/") {
            let url = GitUrl::without_scheme(text).ok()?;
            return Some((Self { looks_local: true, ..Self::of_url(&url) }, url.query));
        }
        let url = GitUrl::parse(text).ok()?;
        if matches!(url.scheme.as_str(), "http" | "https") && !url.path.ends_with(".git") {
            return None;
        }
        Some((Self::of_url(&url), url.query))
    }

    fn of_url(url: &GitUrl) -> Self {
        Self {
            remote: url.remote.clone(),
            unencrypted: matches!(url.scheme.as_str(), "http" | "git"),
            ..Self::with_fragment(&url.fragment)
        }
    }

    /// `reference:folder`.
    fn with_fragment(fragment: &str) -> Self {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let subdir = if fragment.is_empty() { String::new() } else { rooted(subdir) };
        Self {
            reference: reference.to_owned(),
            subdir: subdir.trim_start_matches('/').to_owned(),
            ..Self::default()
        }
    }
}
