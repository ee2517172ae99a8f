use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Name of a cache record. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefId(Arc<str>);

impl RefId {
    /// The id that this text is, as stored by somebody or given by a user.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn random() -> Self {
        Self(buildkit_identity::new_id().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RefId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RefId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RefId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into()))
    }
}

/// What a record is for. The texts are upstream's (client/diskusage.go).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecordType {
    /// The daemon's own.
    #[serde(rename = "internal")]
    Internal,
    /// The root of a frontend.
    #[serde(rename = "frontend")]
    Frontend,
    /// A directory of a client.
    #[serde(rename = "source.local")]
    LocalSource,
    /// A checkout of a git repository.
    #[serde(rename = "source.git.checkout")]
    GitCheckout,
    /// A cache mount of a step.
    #[serde(rename = "exec.cachemount")]
    CacheMount,
    /// The result of a step.
    #[default]
    #[serde(rename = "regular")]
    Regular,
}

impl RecordType {
    /// The text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Frontend => "frontend",
            Self::LocalSource => "source.local",
            Self::GitCheckout => "source.git.checkout",
            Self::CacheMount => "exec.cachemount",
            Self::Regular => "regular",
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
