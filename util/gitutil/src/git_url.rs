use std::collections::BTreeMap;

use crate::url::{Url, parse_query};

/// Values by key, in the order in which they were given.
pub type Query = BTreeMap<String, Vec<String>>;

/// Transports of git.
const TRANSPORTS: [&str; 4] = ["http", "https", "ssh", "git"];

/// The address of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitUrl {
    /// `http`, `https`, `ssh` or `git`; empty for [`GitUrl::without_scheme`].
    pub scheme: String,
    /// The host, with its port.
    pub host: String,
    /// Where on the host, with escapes resolved.
    pub path: String,
    /// What is wanted, as pairs.
    pub query: Query,
    /// What is wanted, as one text; escapes resolved.
    pub fragment: String,
    /// The address for git, without query and fragment.
    pub remote: String,
}

/// A text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It names no transport, and is not `user@host:path` either.
    #[error("unknown protocol")]
    UnknownProtocol,
    /// It names a transport that git does not have.
    #[error("invalid protocol")]
    InvalidProtocol,
    /// It names a transport, but the rest is no URL.
    #[error("malformed URL")]
    Malformed,
}

impl GitUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// When it is none, with the reason: some callers take what has no transport for something else.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        match scheme(text) {
            Some(scheme) if TRANSPORTS.contains(&scheme.as_str()) => {
                Url::parse(text).map(Self::of_url).ok_or(ParseError::Malformed)
            }
            Some(_) => Err(ParseError::InvalidProtocol),
            None => Self::parse_scp(text).ok_or(ParseError::UnknownProtocol),
        }
    }

    /// Reads `host/path`, all of which becomes the path.
    ///
    /// # Errors
    /// When it could not be part of a URL.
    pub fn without_scheme(text: &str) -> Result<Self, ParseError> {
        Url::parse(text).map(Self::of_url).ok_or(ParseError::Malformed)
    }

    fn of_url(url: Url) -> Self {
        Self {
            remote: url.remote(),
            query: url.query(),
            scheme: url.scheme,
            host: url.host,
            path: url.path,
            fragment: url.fragment,
        }
    }

    /// `user@host:path?query#fragment`.
    fn parse_scp(text: &str) -> Option<Self> {
        let (user, rest) = text.split_once('@')?;
        let (host, rest) = rest.split_once(':')?;
        let is_word = |text: &str, extra: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        };
        // Git would take what begins with a dash for an option. Upstream does not look at that.
        let is_option = user.starts_with('-');
        if is_option || !is_word(user, "-_") || !is_word(host, "-.") || text.contains('\n') {
            return None;
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Some(Self {
            scheme: "ssh".to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: parse_query(query).whole?,
            fragment: fragment.to_owned(),
            remote: format!("{user}@{host}:{path}"),
        })
    }
}

/// What stands before `://`, in lower case.
fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then(|| scheme.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses() {
        for (text, want) in [
            ("https://x.y/a.git#v1", Ok(("https", "x.y", "/a.git", "v1", "https://x.y/a.git"))),
            ("SSH://git@x:22/a%20b", Ok(("ssh", "x:22", "/a b", "", "ssh://git@x:22/a%20b"))),
            ("git@x.y:a/b.git#r", Ok(("ssh", "x.y", "a/b.git", "r", "git@x.y:a/b.git"))),
            ("https://u:p%40q@x/f(o)é", Ok(("https", "x", "/f(o)é", "", "https://u:p%40q@x/f%28o%29%C3%A9"))),
            ("ftp://x/a", Err(ParseError::InvalidProtocol)),
            ("-u@x:a", Err(ParseError::UnknownProtocol)),
            ("--upload-pack@x:a", Err(ParseError::UnknownProtocol)),
            ("x.y/a", Err(ParseError::UnknownProtocol)),
            ("https://x/%zz", Err(ParseError::Malformed)),
            ("https://x:port/", Err(ParseError::Malformed)),
        ] {
            let parsed = GitUrl::parse(text);
            let parts = parsed.as_ref().map(|url| {
                let GitUrl { scheme, host, path, fragment, remote, .. } = url;
                (scheme.as_str(), host.as_str(), path.as_str(), fragment.as_str(), remote.as_str())
            });
            assert_eq!(parts.map_err(|error| *error), want, "{text}");
        }
        let query = GitUrl::parse("git://x/a?b=1&b=%32&c").map(|url| url.query);
        let pairs = [("b", vec!["1", "2"]), ("c", vec![""])]
            .map(|(key, values)| (key.to_owned(), values.into_iter().map(str::to_owned).collect()));
        assert_eq!(query, Ok(Query::from(pairs)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            start in "(https?://|git@|ssh://)?",
            rest in "[a-z.:/?#@%&=\\[\\]é -]{0,40}",
        ) {
            if let Ok(url) = GitUrl::parse(&format!("{start}{rest}")) {
                // What is given to git reads as the same repository.
                let again = GitUrl::parse(&url.remote);
                prop_assert_eq!(again.map(|again| (again.host, again.path)), Ok((url.host, url.path)));
            }
        }
    }
}
