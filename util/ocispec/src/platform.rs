use std::fmt;

use buildkit_util_archutil::{normalized_os, normalized_processor};
use serde::{Deserialize, Serialize};

use crate::descriptor::null_is_default;

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Processor, in Go's names.
    #[serde(default)]
    pub architecture: String,
    /// Operating system, in Go's names.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
    /// Variant of the processor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// A platform without a variant.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }
    }

    /// That of this program, normalized.
    pub fn native() -> Self {
        Self::new(std::env::consts::OS, native_architecture()).normalized()
    }

    /// The form in which platforms compare: names in lower case, aliases resolved, no variant where it
    /// is the default (containerd's `platforms.Normalize`).
    #[must_use]
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normalized_processor(&self.architecture, &self.variant);
        Self {
            os: normalized_os(&self.os),
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// Whether it is the one that stands for no platform, as attestations have it.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

/// The processor of this program in Go's names.
pub(crate) fn native_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// `os/architecture[/variant]`, or `unknown` without an OS.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

/// Which images run on a platform, and which of them runs best (containerd's `platforms.Only`).
#[derive(Clone, Debug)]
pub struct PlatformMatcher {
    /// What runs, the best first.
    accepted: Vec<Platform>,
}

impl PlatformMatcher {
    /// Images for a platform, and those for what its processor can do as well.
    pub fn new(platform: &Platform) -> Self {
        let platform = platform.normalized();
        let mut accepted = vec![platform.clone()];
        let with = |architecture: &str, variant: &str| Platform {
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..platform.clone()
        };
        let below = |variant: &str, lowest: u32| -> Vec<u32> {
            let version = variant.strip_prefix('v').and_then(|version| version.parse::<u32>().ok());
            version.map_or_else(Vec::new, |version| (lowest..version.min(32)).rev().collect())
        };
        match platform.architecture.as_str() {
            "amd64" => {
                accepted.extend(below(&platform.variant, 1).into_iter().map(|version| match version {
                    1 => with("amd64", ""),
                    version => with("amd64", &format!("v{version}")),
                }))
            }
            "arm" => accepted.extend(
                below(&platform.variant, 5).into_iter().map(|version| with("arm", &format!("v{version}"))),
            ),
            "arm64" => {
                let variant = platform.variant.as_str();
                if variant.starts_with("v9") {
                    accepted.push(with("arm64", ""));
                }
                accepted.push(with("arm", "v8"));
                accepted.extend([7, 6, 5].map(|version| with("arm", &format!("v{version}"))));
            }
            _ => {}
        }
        Self { accepted }
    }

    /// How good an image for this platform is: 0 is best; `None` does not run.
    pub fn rank(&self, platform: &Platform) -> Option<usize> {
        let platform = platform.normalized();
        self.accepted.iter().position(|accepted| {
            (&accepted.os, &accepted.architecture, &accepted.variant)
                == (&platform.os, &platform.architecture, &platform.variant)
                && (accepted.os_version.is_empty()
                    || platform.os_version.is_empty()
                    || accepted.os_version == platform.os_version)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn the_best_of_what_runs_is_found() {
        let matcher = PlatformMatcher::new(&parse("linux/arm/v7"));
        assert_eq!(matcher.rank(&parse("linux/arm/v7")), Some(0));
        assert_eq!(matcher.rank(&parse("linux/arm/v6")), Some(1));
        assert_eq!(matcher.rank(&parse("linux/arm/v8")), None);
        assert_eq!(matcher.rank(&parse("linux/arm64")), None);
        let matcher = PlatformMatcher::new(&parse("linux/amd64/v3"));
        assert_eq!(matcher.rank(&parse("linux/amd64/v2")), Some(1));
        assert_eq!(matcher.rank(&parse("linux/amd64")), Some(2));
        assert_eq!(PlatformMatcher::new(&parse("linux/amd64")).rank(&parse("linux/amd64/v2")), None);
        assert_eq!(PlatformMatcher::new(&parse("linux/arm64")).rank(&parse("linux/arm/v7")), Some(2));
        assert_eq!(PlatformMatcher::new(&parse("linux/amd64")).rank(&parse("linux/386")), None);
    }

    #[test]
    fn platforms_have_gos_json() {
        let platform = Platform { variant: "v7".to_owned(), ..Platform::new("linux", "arm") };
        assert_eq!(crate::to_json(&platform), br#"{"architecture":"arm","os":"linux","variant":"v7"}"#);
    }
}
