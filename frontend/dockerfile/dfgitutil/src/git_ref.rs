use buildkit_util_gopath::rooted;

use crate::query::{Query, QueryError};
use crate::url::{Url, is_transport, parse_query};

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
            let url = Url::parse(text)?;
            // What stands before the path of a URL without a scheme is a part of it.
            let git = Self { remote: url.remote(), looks_local: true, ..Self::with_fragment(&url.fragment) };
            return Some((git, url.query()));
        }
        let Some(scheme) = scheme(text) else {
            return Self::parse_scp(text);
        };
        if !is_transport(&scheme) {
            return None;
        }
        let url = Url::parse(text)?;
        let is_web = matches!(scheme.as_str(), "http" | "https");
        if is_web && !url.path.ends_with(".git") {
            return None;
        }
        let git = Self {
            remote: url.remote(),
            unencrypted: matches!(scheme.as_str(), "http" | "git"),
            ..Self::with_fragment(&url.fragment)
        };
        Some((git, url.query()))
    }

    /// `user@host:path?query#fragment`.
    fn parse_scp(text: &str) -> Option<(Self, Query)> {
        let (user, rest) = text.split_once('@')?;
        let (host, rest) = rest.split_once(':')?;
        let is_word = |text: &str, extra: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        };
        if !is_word(user, "-_") || !is_word(host, "-.") || text.contains('\n') {
            return None;
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let query = parse_query(query).whole?;
        let git = Self { remote: format!("{user}@{host}:{path}"), ..Self::with_fragment(fragment) };
        Some((git, query))
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

/// What stands before `://`, in lower case.
fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then(|| scheme.to_ascii_lowercase())
}
