//! What this daemon advertises: only what works.

use buildkit_util_apicaps::CapList;

/// Prefixes of LLB capabilities whose part of the daemon does not exist yet.
const MISSING_LLB: &[&str] = &[
    "source.git",
    "source.http",
    "soruce.http",
    "exec.meta.network.proxy",
    "exec.meta.cdi",
    "exec.meta.security.devices",
    "cache.",
    "exporter.image.attestations",
    "exporter.session",
    "history.",
];

/// Prefixes of bridge capabilities that do not exist yet.
const MISSING_FRONTEND: &[&str] = &[
    "gateway.exec",
    "reference.attestations",
    "source.metaresolver.image.attestations",
    "source.metaresolver.http",
];

/// Capabilities of ops, of the `full` list of the reference version.
pub fn llb_caps(full: &CapList) -> CapList {
    full.clone().filtered(|cap| !MISSING_LLB.iter().any(|prefix| cap.id.starts_with(prefix)))
}

/// Capabilities of the bridge, of the `full` list of the reference version.
pub fn frontend_caps(full: &CapList) -> CapList {
    full.clone().filtered(|cap| !MISSING_FRONTEND.iter().any(|prefix| cap.id.starts_with(prefix)))
}
