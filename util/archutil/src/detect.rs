use std::fmt;
use std::path::Path;

use crate::{binfmt, native};

/// A platform in the words of images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v2`; empty for none.
    pub variant: String,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

fn linux(architecture: &str, variant: &str) -> Platform {
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
}

/// What this machine runs: its own platform first, then in an order that does not change. Reads the
/// kernel's list of emulators anew each time; that takes less than a millisecond.
pub fn supported_platforms() -> Vec<Platform> {
    let own = native::architecture();
    let mut foreign = binfmt::emulated(Path::new(binfmt::REGISTRY));
    foreign.extend(native::related(own));
    platforms(own, &native::amd64_levels(), &foreign)
}

fn platforms(own: &str, levels: &[&str], foreign: &[&str]) -> Vec<Platform> {
    let mut found = vec![linux(own, "")];
    for target in &binfmt::TARGETS {
        let architecture = target.architecture;
        if architecture != own {
            if !foreign.contains(&architecture) {
                continue;
            }
            found.push(linux(architecture, ""));
        }
        match architecture {
            // Emulators are known to reach the second level.
            "amd64" if own == "amd64" => found.extend(levels.iter().map(|level| linux("amd64", level))),
            "amd64" => found.push(linux("amd64", "v2")),
            "arm" => found.push(linux("arm", "v6")),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: &str, levels: &[&str], foreign: &[&str], expect: &[&str]) {
        let found = platforms(own, levels, foreign);
        let names: Vec<String> = found.iter().map(Platform::to_string).collect();
        assert_eq!(names, expect, "{own}");
    }

    #[test]
    fn order_and_variants() {
        check("amd64", &[], &[], &["linux/amd64"]);
        check(
            "amd64",
            &["v2", "v3"],
            &["386"],
            &["linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/386"],
        );
        check("riscv64", &[], &[], &["linux/riscv64"]);
        check("arm", &[], &[], &["linux/arm", "linux/arm/v6"]);
        check(
            "arm64",
            &[],
            &["arm", "amd64"],
            &["linux/arm64", "linux/amd64", "linux/amd64/v2", "linux/arm", "linux/arm/v6"],
        );
    }

    #[test]
    fn this_machine_runs_itself() {
        let found = supported_platforms();
        assert_eq!(found[0].architecture, native::architecture());
        assert!(found.iter().all(|platform| platform.os == "linux"));
    }
}
