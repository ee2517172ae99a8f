use std::fmt;
use std::str::FromStr;

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_cachedigest::Digest;

use crate::grammar::{is_domain, is_path_component, is_tag};

/// The registry of names that say none.
pub const DEFAULT_DOMAIN: &str = "docker.io";

/// The tag of names that say neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// What docker's registry was called long ago.
const LEGACY_DOMAIN: &str = "index.docker.io";

/// Official images of docker's registry.
const OFFICIAL: &str = "library/";

/// Longest path of a repository.
const MAX_PATH: usize = 255;

/// Why text is no name of an image. The texts are those of the original library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Registries know lower case only.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// It could be the id of an image.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Hexadecimal(String),
    /// Its path has more than 255 characters.
    #[error("repository name must not be more than {MAX_PATH} characters")]
    TooLong,
    /// Its digest is of no algorithm that is known.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// Its digest is not as long as its algorithm makes them.
    #[error("invalid checksum digest length")]
    DigestLength,
}

impl Classify for ParseError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// The name of an image in a registry, in its normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses a name as people write it. Without a registry it is docker's.
    ///
    /// # Errors
    /// When the text is no name.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParseError::Hexadecimal(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (rest, None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name, None),
        };
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ParseError::UpperCase(path));
        }
        if !is_domain(domain)
            || !path.split('/').all(is_path_component)
            || tag.is_some_and(|tag| !is_tag(tag))
        {
            return Err(ParseError::Format);
        }
        if path.len() > MAX_PATH {
            return Err(ParseError::TooLong);
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// The registry, with its port: `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in its registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// As short as people write it: `busybox:1.36`.
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        let Some(short) = text.strip_prefix("docker.io/") else { return text };
        short.strip_prefix(OFFICIAL).filter(|name| !name.contains('/')).unwrap_or(short).to_owned()
    }

    /// With the tag `latest`, if it has neither tag nor digest.
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// With another digest.
    pub fn with_digest(self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self }
    }

    /// With another tag and no digest.
    ///
    /// # Errors
    /// [`ParseError::Format`] when it is no tag.
    pub fn with_tag(self, tag: &str) -> Result<Self, ParseError> {
        if !is_tag(tag) {
            return Err(ParseError::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self })
    }

    /// Without tag and digest.
    pub fn repository(self) -> Self {
        Self { tag: None, digest: None, ..self }
    }
}

/// What stands before the first slash is a registry if it could be a host and no repository of docker's:
/// with a dot, a port or an upper-case letter, or `localhost`.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    }
}

fn parse_digest(text: &str) -> Result<Digest, ParseError> {
    let (algorithm, hex) = text.split_once(':').ok_or(ParseError::Format)?;
    let mut parts = algorithm.split(['-', '_', '+', '.']);
    let word = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if !parts.all(word) || hex.len() < 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ParseError::Format);
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(ParseError::Algorithm),
    };
    if hex.len() != length {
        return Err(ParseError::DigestLength);
    }
    text.parse().map_err(|_| ParseError::Format)
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "86e0e091d0da6bde2456dbb48306f3956bbeb2eae1b5b9a43045843f69fe4aaa";

    #[test]
    fn normal_and_familiar_forms() {
        for (text, normal, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
            ("moby/buildkit", "docker.io/moby/buildkit", "moby/buildkit"),
            ("library/busybox", "docker.io/library/busybox", "busybox"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("Registry/a", "Registry/a", "Registry/a"),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ] {
            let parsed = Reference::parse(text).expect(text);
            assert_eq!(
                (parsed.to_string().as_str(), parsed.familiar().as_str()),
                (normal, familiar),
                "{text}"
            );
            assert_eq!(normal.parse(), Ok(parsed), "{normal}");
        }
        let text = format!("a.b/c:d@sha256:{HEX}");
        let parsed = Reference::parse(&text).expect("parses");
        assert_eq!(parsed.to_string(), text);
        assert_eq!((parsed.domain(), parsed.path(), parsed.tag()), ("a.b", "c", Some("d")));
        assert_eq!(parsed.clone().with_default_tag(), parsed);
        assert_eq!(parsed.with_tag("e").expect("a tag").to_string(), "a.b/c:e");
        assert_eq!(Reference::parse("a").expect("parses").with_default_tag().tag(), Some("latest"));
    }

    #[test]
    fn what_is_no_name() {
        let long = format!("a.b/{}", "a".repeat(256));
        let short = format!("a@sha256:{}", &HEX[1..]);
        let digest = |algorithm: &str| format!("a@{algorithm}:{HEX}");
        for (text, expect) in [
            ("", ParseError::Format),
            (HEX, ParseError::Hexadecimal(HEX.to_owned())),
            ("Busybox", ParseError::UpperCase("library/Busybox".to_owned())),
            ("a/B", ParseError::UpperCase("a/B".to_owned())),
            ("a:b:c", ParseError::Format),
            ("a//b", ParseError::Format),
            ("/a", ParseError::Format),
            ("a/", ParseError::Format),
            ("a b", ParseError::Format),
            ("a@b", ParseError::Format),
            ("http://a/b", ParseError::Format),
            ("a:", ParseError::Format),
            ("ä", ParseError::Format),
            (&long, ParseError::TooLong),
            (&short, ParseError::DigestLength),
            (&digest("md5"), ParseError::Algorithm),
            (&digest("../sha256"), ParseError::Format),
            (&format!("a@sha256:../../{HEX}"), ParseError::Format),
        ] {
            assert_eq!(Reference::parse(text), Err(expect), "{text}");
        }
    }
}
