use std::str::FromStr;

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_archutil::{normalized_os, normalized_processor};
use buildkit_util_gotext::quoted;

use crate::Platform;
use crate::platform::native_architecture;

const KNOWN_SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const KNOWN_PROCESSORS: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// Longest text that is read or repeated in an error, in bytes.
const MAX_LENGTH: usize = 1024;

/// A text names no platform. The texts are those of containerd's `platforms.Parse`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePlatformError {
    /// The operating system has a character that none has.
    #[error(
        "{} is an invalid OS component of {}: OSAndVersion specifier component must match \
         \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.%-]*)((?:\\\\+[A-Za-z0-9_.%-]+)*)\\\\))?$\": invalid argument",
        quoted(part),
        quoted(text)
    )]
    System {
        /// The operating system.
        part: String,
        /// The whole text.
        text: String,
    },
    /// The architecture or the variant has a character that none has.
    #[error(
        "{} is an invalid component of {}: platform specifier component must match \
         \"^[A-Za-z0-9_.-]+$\": invalid argument",
        quoted(part),
        quoted(text)
    )]
    Component {
        /// The architecture or the variant.
        part: String,
        /// The whole text.
        text: String,
    },
    /// A version or a feature of the operating system is not escaped rightly.
    #[error("{} has an invalid OS version or feature: invalid URL escape", quoted(.0))]
    Escape(String),
    /// One word that is neither an operating system nor an architecture.
    #[error("{}: unknown operating system or architecture: invalid argument", quoted(.0))]
    Unknown(String),
    /// There are wildcards in it.
    #[error("{}: wildcards not yet supported: invalid argument", quoted(.0))]
    Wildcard(String),
    /// It has more than three parts, or is far too long.
    #[error("{}: cannot parse platform specifier: invalid argument", quoted(.0))]
    Form(String),
}

impl Classify for ParsePlatformError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Reads `os[(version[+feature…])]/architecture[/variant]`, or one of operating system and architecture, which
/// leaves the other that of this program; normalized.
impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, ParsePlatformError> {
        let whole = || text.to_owned();
        if text.len() > MAX_LENGTH {
            return Err(ParsePlatformError::Form(text.chars().take(128).collect()));
        }
        if text.contains('*') {
            return Err(ParsePlatformError::Wildcard(whole()));
        }
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let (first, rest) = parts.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
        let (os, options) = split_system(first)
            .ok_or_else(|| ParsePlatformError::System { part: first.to_owned(), text: whole() })?;
        let (os_version, os_features) =
            decode_options(options).ok_or_else(|| ParsePlatformError::Escape(whole()))?;
        if let Some(part) = rest.iter().find(|part| !is_word(part, "_.-")) {
            return Err(ParsePlatformError::Component { part: (*part).to_owned(), text: whole() });
        }
        let os = normalized_os(os);
        let (os, architecture, variant) = match *rest {
            [] if KNOWN_SYSTEMS.contains(&os.as_str()) => (os, native_architecture(), ""),
            [] if KNOWN_PROCESSORS.contains(&normalized_processor(first, "").0.as_str()) => {
                (std::env::consts::OS.to_owned(), first, "")
            }
            [] => return Err(ParsePlatformError::Unknown(whole())),
            [architecture] => (os, architecture, ""),
            [architecture, variant] => (os, architecture, variant),
            _ => return Err(ParsePlatformError::Form(whole())),
        };
        let (architecture, variant) = (architecture.to_owned(), variant.to_owned());
        Ok(Self { architecture, os, os_version, os_features, variant }.normalized())
    }
}

fn is_word(text: &str, extra: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// Name of a system, and its version and features: what is in parentheses after it.
fn split_system(text: &str) -> Option<(&str, &str)> {
    let (name, options) = match text.split_once('(') {
        Some((name, options)) => (name, options.strip_suffix(')')?),
        None => (text, ""),
    };
    let mut options_words = options.split('+');
    let version = options_words.next().unwrap_or_default();
    let fits = is_word(name, "_-")
        && (version.is_empty() || is_word(version, "_.%-"))
        && options_words.all(|feature| is_word(feature, "_.%-"));
    fits.then_some((name, options))
}

fn decode_options(options: &str) -> Option<(String, Vec<String>)> {
    let mut words = options.split('+').map(unescape);
    let version = words.next()??;
    let features: Option<Vec<String>> = words.collect();
    Some((version, features?.into_iter().filter(|feature| !feature.is_empty()).collect()))
}

/// Resolves `%XX`; `None` if what they stand for is no text.
fn unescape(text: &str) -> Option<String> {
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
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Platform {
        text.parse().unwrap()
    }

    /// Rust's own form of quotes has other escapes.
    #[test]
    fn errors_quote_as_go_does() {
        let error = "a\u{7}'\u{ad}/b".parse::<Platform>().unwrap_err();
        let expected = r#""a\a'\u00ad" is an invalid OS component of "a\a'\u00ad/b": "#;
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn platforms_are_read_and_normalized() {
        for (text, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/ARM/V6", "linux/arm/v6"),
            ("macos/arm64", "darwin/arm64"),
            ("windows(10.0.17763)/amd64", "windows/amd64"),
        ] {
            assert_eq!(parse(text).to_string(), want, "{text}");
        }
        assert_eq!(parse("amd64").architecture, "amd64");
        assert_eq!(parse("armhf").variant, "v7");
        assert_eq!(parse("amd64").os, std::env::consts::OS);
        assert_eq!(parse("windows").os, "windows");
        assert_eq!(parse("linux"), Platform { os: "linux".to_owned(), ..Platform::native() });
        let windows = parse("windows(10.0%2B1+a+win32k)/amd64");
        assert_eq!(windows.os_version, "10.0+1");
        assert_eq!(windows.os_features, ["a", "win32k"]);
    }

    #[test]
    fn what_is_no_platform() {
        for (text, error) in [
            ("", "\"\" is an invalid OS component of \"\": "),
            ("/", "\"\" is an invalid OS component of \"/\": "),
            ("linux/", "\"\" is an invalid component of \"linux/\": "),
            ("a/b/c/d", "\"a/b/c/d\": cannot parse"),
            (
                "linux/a b",
                "\"a b\" is an invalid component of \"linux/a b\": platform specifier component must match \
                 \"^[A-Za-z0-9_.-]+$\": invalid argument",
            ),
            (
                "windows(1/amd64",
                "\"windows(1\" is an invalid OS component of \"windows(1/amd64\": OSAndVersion specifier component \
                 must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.%-]*)((?:\\\\+[A-Za-z0-9_.%-]+)*)\\\\))?$\": \
                 invalid argument",
            ),
            ("a b/x", "\"a b\" is an invalid OS component"),
            ("windows(%zz)/amd64", "\"windows(%zz)/amd64\" has an invalid OS version"),
            ("quantum", "\"quantum\": unknown operating system or architecture: invalid argument"),
            ("linux/*", "\"linux/*\": wildcards not yet supported: invalid argument"),
        ] {
            let found = text.parse::<Platform>().unwrap_err().to_string();
            assert!(found.starts_with(error), "{text}: {found}");
        }
        assert!("x".repeat(MAX_LENGTH + 1).parse::<Platform>().is_err());
    }
}
