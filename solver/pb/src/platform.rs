use std::fmt;

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
        let os = match self.os.to_lowercase().as_str() {
            "" => match std::env::consts::OS {
                "macos" => "darwin",
                os => os,
            }
            .to_owned(),
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        let architecture = self.architecture.to_lowercase();
        let variant = self.variant.to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        let mut os_features = self.os_features.clone();
        os_features.sort_unstable();
        os_features.dedup();
        Self {
            os,
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
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
