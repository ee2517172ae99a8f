use std::fmt;

use buildkit_errdefs::{Classify, Kind};

/// Whose defaults a build has, so that it gives the same image as long ago (upstream `compat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompatibilityVersion {
    /// Those of 0.13: Docker's media types, and no zstd.
    V10,
    /// Those of 0.15: Docker's media types.
    V20,
    /// Those of 0.31: OCI's media types, attestations as artifacts.
    #[default]
    V30,
}

/// There is no such version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompatibilityError {
    /// It is of a later daemon.
    #[error("unsupported compatibility-version {0}: upgrade buildkit (max supported: 30)")]
    Newer(i64),
    /// It never was.
    #[error("unsupported compatibility-version {0} (supported: [10 20 30])")]
    Unknown(i64),
}

impl Classify for CompatibilityError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// 0 is the current one.
impl TryFrom<i64> for CompatibilityVersion {
    type Error = CompatibilityError;

    fn try_from(version: i64) -> Result<Self, CompatibilityError> {
        match version {
            10 => Ok(Self::V10),
            20 => Ok(Self::V20),
            0 | 30 => Ok(Self::V30),
            31.. => Err(CompatibilityError::Newer(version)),
            _ => Err(CompatibilityError::Unknown(version)),
        }
    }
}

impl CompatibilityVersion {
    /// Its number in requests.
    pub fn number(self) -> i64 {
        match self {
            Self::V10 => 10,
            Self::V20 => 20,
            Self::V30 => 30,
        }
    }
}

impl fmt::Display for CompatibilityVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for number in [10, 20, 30] {
            assert_eq!(CompatibilityVersion::try_from(number).map(CompatibilityVersion::number), Ok(number));
        }
        assert_eq!(CompatibilityVersion::try_from(0), Ok(CompatibilityVersion::default()));
        for (number, text) in [
            (11, "unsupported compatibility-version 11 (supported: [10 20 30])"),
            (-1, "unsupported compatibility-version -1 (supported: [10 20 30])"),
            (40, "unsupported compatibility-version 40: upgrade buildkit (max supported: 30)"),
        ] {
            assert_eq!(CompatibilityVersion::try_from(number).unwrap_err().to_string(), text);
        }
    }
}
