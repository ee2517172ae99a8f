//! Version and revision that the daemon and the client report.
#![forbid(unsafe_code)]

/// Name of the software, as reported by `Control.Info` and `--version`.
pub const PACKAGE: &str = "github.com/moby/buildkit";

/// Version of this build.
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Source revision of this build; empty when it was not given at build time by `BUILDKIT_REVISION`.
pub const REVISION: &str = match option_env!("BUILDKIT_REVISION") {
    Some(revision) => revision,
    None => "",
};
