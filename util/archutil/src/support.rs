//! How executables of a platform can be run here.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::detect::{Platform, supported_platforms};
use crate::native;

/// Names of emulators begin with this, as in the original's images.
const PREFIX: &str = "buildkit-qemu-";

/// How executables of a platform can be run on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// The kernel starts them, perhaps with an emulator that is registered with it.
    Kernel,
    /// This program runs them when it is started with their path and arguments.
    Emulator(PathBuf),
    /// Nothing is known to run them.
    Unknown,
    /// This processor is too old for them; emulators end at the second level too.
    Never {
        /// The levels that can be run.
        supported: Vec<Platform>,
    },
}

/// Looks at the kernel, and for emulators (`buildkit-qemu-ARCHITECTURE`) in the directories of `PATH`.
pub fn support(platform: &Platform) -> Support {
    if platform.architecture == native::architecture() && platform.variant.is_empty() {
        return Support::Kernel;
    }
    decide(platform, supported_platforms(), &std::env::var_os("PATH").unwrap_or_default())
}

fn decide(platform: &Platform, mut supported: Vec<Platform>, path: &OsStr) -> Support {
    supported.retain(|known| known.os == platform.os && known.architecture == platform.architecture);
    let has_levels = platform.architecture == "amd64";
    let is_base = matches!(platform.variant.as_str(), "" | "v1");
    if supported.iter().any(|known| !has_levels || is_base || known.variant == platform.variant) {
        return Support::Kernel;
    }
    if has_levels && !is_base && platform.variant != "v2" {
        return Support::Never { supported };
    }
    let name = OsString::from(format!("{PREFIX}{}", qemu_name(&platform.architecture)));
    let found = std::env::split_paths(path).map(|dir| dir.join(&name)).find(|program| {
        fs_err::metadata(program).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    });
    found.map_or(Support::Unknown, Support::Emulator)
}

/// What QEMU calls an architecture.
fn qemu_name(architecture: &str) -> &str {
    match architecture {
        "arm64" => "aarch64",
        "amd64" => "x86_64",
        "386" => "i386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    #[test]
    fn kernel_then_emulator() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = |name: &str, mode| {
            let path = dir.path().join(name);
            fs_err::write(&path, "").expect("a file");
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            Support::Emulator(path)
        };
        let arm64 = program("buildkit-qemu-aarch64", 0o755);
        program("buildkit-qemu-s390x", 0o644);
        let supported = ["linux/amd64", "linux/amd64/v2", "linux/arm", "linux/arm/v6"].map(platform);
        let never = Support::Never { supported: supported[..2].to_vec() };
        for (text, expect) in [
            ("linux/amd64", &Support::Kernel),
            ("linux/amd64/v1", &Support::Kernel),
            ("linux/amd64/v2", &Support::Kernel),
            ("linux/amd64/v3", &never),
            ("linux/arm/v5", &Support::Kernel),
            ("linux/arm64", &arm64),
            ("linux/s390x", &Support::Unknown),
            ("linux/riscv64", &Support::Unknown),
        ] {
            assert_eq!(
                &decide(&platform(text), supported.to_vec(), dir.path().as_os_str()),
                expect,
                "{text}"
            );
        }
    }

    #[test]
    fn this_machine_needs_no_emulator() {
        let own = platform(&format!("linux/{}", native::architecture()));
        assert_eq!(support(&own), Support::Kernel);
    }
}
