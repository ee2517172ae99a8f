use std::collections::BTreeMap;

use buildkit_util_cachedigest::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Platform;

/// Keys of annotations with a meaning.
pub mod annotation {
    /// Digest of a layer before it was compressed.
    pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";
    /// When a layer was made, RFC 3339.
    pub const CREATED_AT: &str = "buildkit/createdat";
    /// The latest time that files of a layer may have, in seconds since 1970: later ones were brought down to
    /// it. Other tools see it too (upstream's `util/converter`).
    pub const REWRITTEN_TIMESTAMP: &str = "buildkit/rewritten-timestamp";
    /// Before the name of a registry: its repositories that have the blob, with commas.
    pub const DISTRIBUTION_SOURCE: &str = "containerd.io/distribution.source.";
    /// Name of an image in an index, as people write it.
    pub const IMAGE_NAME: &str = "io.containerd.image.name";
    /// Tag of an image in an index of a layout.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// When an image was made, RFC 3339.
    pub const CREATED: &str = "org.opencontainers.image.created";
}

/// Names a blob: what it is, its digest and size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the blob is.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Other places to get it from.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Its content, if that stands here too.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "base64_bytes")]
    pub data: Vec<u8>,
    /// What the image runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What the artifact is.
    #[serde(rename = "artifactType", default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
}

impl Descriptor {
    /// Names a blob, without more.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: Vec::new(),
            platform: None,
            artifact_type: String::new(),
        }
    }

    /// Names these bytes.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// The digest of the layer before it was compressed, if the descriptor says so.
    pub fn diff_id(&self) -> Option<Digest> {
        Digest::parse(self.annotations.get(annotation::UNCOMPRESSED)?).ok()
    }

    /// With one annotation more.
    #[must_use]
    pub fn with_annotation(mut self, key: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }
}

/// Negative sizes are no sizes.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = i64::deserialize(deserializer)?;
    u64::try_from(size).map_err(|_| serde::de::Error::custom(format!("a blob cannot have {size} bytes")))
}

/// Go writes `null` for what is empty.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
