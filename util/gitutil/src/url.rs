//! URLs as Go's `net/url` reads and writes them, as far as names of repositories need it: the written form is
//! what repositories are told apart by.

use crate::Query;

/// A URL in its parts, escapes resolved but for those of the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Url {
    /// In lower case; empty if there is none.
    pub(crate) scheme: String,
    /// `user:password@`, as it is written again.
    user: String,
    /// With its port.
    pub(crate) host: String,
    pub(crate) path: String,
    /// The path as it is written again.
    escaped_path: String,
    query: String,
    /// The query is there and empty.
    has_empty_query: bool,
    pub(crate) fragment: String,
}

impl Url {
    /// `None` if it is malformed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let before_fragment = rest;
        if rest.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let (scheme, rest) = match rest.split_once("://") {
            Some((scheme, _)) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                (scheme.to_ascii_lowercase(), &rest[scheme.len() + 1..])
            }
            _ => (String::new(), rest),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let has_empty_query = query.is_empty() && before_fragment.ends_with('?');
        let (authority, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let decoded = unescape(path)?;
        let is_escaped = path.bytes().all(|byte| byte == b'%' || is_path(byte) || b"!'()*[]".contains(&byte));
        let escaped_path = if is_escaped { path.to_owned() } else { escape(&decoded, is_path) };
        let (user, host) = parse_authority(authority)?;
        Some(Self {
            scheme,
            user,
            host,
            path: text_of(decoded),
            escaped_path,
            query: query.to_owned(),
            has_empty_query,
            fragment: text_of(unescape(fragment)?),
        })
    }

    /// The URL without query and fragment; without its scheme if it has none.
    pub(crate) fn remote(&self) -> String {
        let Self { scheme, user, host, escaped_path, .. } = self;
        let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
        let query = if self.has_empty_query { "?" } else { "" };
        format!("{scheme}{user}{host}{escaped_path}{query}")
    }

    /// The pairs of the query that can be read.
    pub(crate) fn query(&self) -> Query {
        parse_query(&self.query).readable
    }
}

/// The path of a URL of any scheme, escapes resolved; `None` if the URL is malformed.
pub fn url_path(text: &str) -> Option<String> {
    Url::parse(text).map(|url| url.path)
}

/// A query that was read.
pub(crate) struct ParsedQuery {
    /// The pairs that can be read.
    pub(crate) readable: Query,
    /// All of it; `None` if there is a pair that cannot be read.
    pub(crate) whole: Option<Query>,
}

pub(crate) fn parse_query(text: &str) -> ParsedQuery {
    let mut readable = Query::new();
    let mut is_whole = true;
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let part = |text: &str| unescape(&text.replace('+', " ")).map(text_of);
        match (part(key), part(value)) {
            (Some(key), Some(value)) if !pair.contains(';') => readable.entry(key).or_default().push(value),
            _ => is_whole = false,
        }
    }
    ParsedQuery { whole: is_whole.then(|| readable.clone()), readable }
}

/// Checks `user:password@host:port`: what stands before the host, as it is written again, and the host.
fn parse_authority(text: &str) -> Option<(String, String)> {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, text),
    };
    let (name, port) = match host.strip_prefix('[') {
        Some(_) => {
            let end = host.rfind(']')?;
            (&host[..=end], &host[end + 1..])
        }
        None => host.find(':').map_or((host, ""), |_| {
            let at = host.rfind(':').unwrap_or(host.len());
            (&host[..at], &host[at..])
        }),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let is_name =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte));
    if !is_port || !is_name {
        return None;
    }
    let Some(user) = user else { return Some((String::new(), host.to_owned())) };
    let is_user =
        user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte));
    if !is_user {
        return None;
    }
    let part = |text: &str| Some(escape(&unescape(text)?, is_user_info));
    let user = match user.split_once(':') {
        Some((name, password)) => format!("{}:{}", part(name)?, part(password)?),
        None => part(user)?,
    };
    Some((format!("{user}@"), host.to_owned()))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

fn is_path(byte: u8) -> bool {
    is_unreserved(byte) || b"$&+,/:;=@".contains(&byte)
}

fn is_user_info(byte: u8) -> bool {
    is_unreserved(byte) || b"$&+,;=".contains(&byte)
}

fn escape(bytes: &[u8], is_plain: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match is_plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Resolves `%XX`; `None` if one is malformed.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit()? << 4 | digit()?
            }
            byte => byte,
        });
    }
    Some(out)
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
