use std::fmt;

use buildkit_util_archutil::{normalized_os, normalized_processor};

use crate::Platform;

impl Platform {
    /// A platform without a variant.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }
    }

    /// The form in which platforms compare: names in lower case, aliases resolved, no variant where
    /// it is the default (containerd's `platforms.Normalize`). A missing OS is the one of this
    /// program; a missing architecture stays missing.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let os = if self.os.is_empty() { std::env::consts::OS } else { &self.os };
        let (architecture, variant) = normalized_processor(&self.architecture, &self.variant);
        let mut os_features = self.os_features.clone();
        os_features.sort_unstable();
        os_features.dedup();
        Self {
            os: normalized_os(os),
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_and_defaults_normalise() {
        for (os, architecture, variant, want) in [
            ("linux", "amd64", "", "linux/amd64"),
            ("Linux", "x86_64", "v1", "linux/amd64"),
            ("linux", "AMD64", "V3", "linux/amd64/v3"),
            ("linux", "aarch64", "v8", "linux/arm64"),
            ("linux", "arm64", "9", "linux/arm64/v9"),
            ("linux", "arm", "", "linux/arm/v7"),
            ("linux", "arm", "6", "linux/arm/v6"),
            ("linux", "armel", "v7", "linux/arm/v6"),
            ("linux", "i386", "x", "linux/386"),
            ("macos", "riscv64", "", "darwin/riscv64"),
            ("linux", "", "", "linux"),
        ] {
            let platform = Platform { variant: variant.into(), ..Platform::new(os, architecture) };
            assert_eq!(platform.normalized().to_string(), want, "{platform:?}");
        }
        assert_eq!(Platform::default().to_string(), "unknown");
        let features =
            Platform { os_features: vec!["b".into(), "a".into(), "b".into()], ..Platform::default() };
        assert_eq!(features.normalized().os_features, ["a", "b"]);
    }
}
