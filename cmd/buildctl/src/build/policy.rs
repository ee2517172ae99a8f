use std::path::Path;

use anyhow::{Context as _, Result};
use buildkit_sourcepolicy_pb::{Policy, from_json};

/// Reads a source policy.
pub(crate) fn read(path: &Path) -> Result<Policy> {
    let json = fs_err::read(path)?;
    let error = || format!("failed to unmarshal source-policy-file {:?}", path.display().to_string());
    from_json(&json).with_context(error)
}
