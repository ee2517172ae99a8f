//! Names of images, by the grammar of the distribution project's reference format.

use crate::{Error, Result};

const DOCKER_HUB: &str = "docker.io";
const MAX_NAME: usize = 255;

/// An image name with its registry, and the tag or digest that it had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Parses a reference as people write it: without a registry it is Docker Hub's.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let error = |reason| Error::Reference { reference: text.to_owned(), reason };
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error("it is an image id, not a name"));
        }
        let (domain, rest) = match text.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (first, rest)
            }
            _ => (DOCKER_HUB, text),
        };
        let domain = if domain == "index.docker.io" { DOCKER_HUB } else { domain };
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(error("repository name must be lowercase"));
        }
        if !is_domain(domain) || !path.split('/').all(is_component) {
            return Err(error("invalid reference format"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(error("invalid tag format"));
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(error("invalid digest format"));
        }
        let library = if domain == DOCKER_HUB && !path.contains('/') { "library/" } else { "" };
        let name = format!("{domain}/{library}{path}");
        if name.len() > MAX_NAME {
            return Err(error("repository name is longer than 255 characters"));
        }
        Ok(Self { name, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }

    /// The whole name; the tag is `latest` when there is neither tag nor digest.
    pub(crate) fn with_default_tag(&self) -> String {
        match (&self.tag, &self.digest) {
            (None, None) => format!("{}:latest", self.name),
            (tag, digest) => {
                let mut out = self.name.clone();
                for (mark, part) in [(':', tag), ('@', digest)] {
                    if let Some(part) = part {
                        out.push(mark);
                        out.push_str(part);
                    }
                }
                out
            }
        }
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_fits = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    port_fits && host_fits
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    is_word(first)
        && is_word(last)
        && bytes.split(|&b| is_word(b)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        let known = buildkit_util_cachedigest::Digest::parse(text).is_ok();
        known
            && algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expect) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("user/app", "docker.io/user/app:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b:x", "localhost:5000/a/b:x"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            (&format!("a.b/c@{digest}"), &format!("a.b/c@{digest}")),
            (&format!("c:1@{digest}"), &format!("docker.io/library/c:1@{digest}")),
        ] {
            assert_eq!(Reference::parse(text).expect(text).with_default_tag(), expect);
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in ["", "A", "a/", "/a", "a:", "a@", "a..b", "-a", "a___b", "a:b:c", "x@sha256:1"] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert!(Reference::parse(&"a".repeat(64)).is_err());
        assert!(Reference::parse(&"b".repeat(250)).is_err());
    }
}
