//! The document, field by field, in the order that Go writes.

use buildkit_exporter_util_epoch::Timestamp;
use buildkit_util_cachedigest::Digest;
use serde::{Deserialize, Deserializer, Serialize};

/// Media type of the document.
pub const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// Parent of a layer that has none. It is always written; a parent that is left out is layer 0.
pub const NO_PARENT: i64 = -1;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheConfig {
    /// Blobs, each with the one below.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub layers: Vec<CacheLayer>,
    /// Keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub records: Vec<CacheRecord>,
}

/// A layer on top of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheLayer {
    /// Digest of the blob.
    pub blob: Digest,
    /// Place of the layer below, or [`NO_PARENT`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parent: i64,
    /// What a manifest would say of the blob, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<LayerAnnotations>,
}

/// A descriptor in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerAnnotations {
    /// What the blob is.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Digest of the layer before it was compressed.
    #[serde(
        rename = "diffID",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "empty_is_none"
    )]
    pub diff_id: Option<Digest>,
    /// Bytes of the blob.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: i64,
    /// When it was made.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
}

/// A key with its results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// Results by their topmost layers.
    #[serde(
        rename = "layers",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub results: Vec<CacheResult>,
    /// Results layer by layer.
    #[serde(
        rename = "chains",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub chained_results: Vec<ChainedResult>,
    /// Digest of the key, with the index of the output folded in.
    pub digest: Digest,
    /// Per input the records that lead here.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub inputs: Vec<Vec<CacheInput>>,
}

/// A layer with all below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheResult {
    /// Place of the layer.
    pub layer: i64,
    /// When the result was made.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
}

/// Layers without what the document has below them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainedResult {
    /// Places of the layers, lowest first.
    pub layers: Vec<i64>,
    /// When the result was made.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
}

/// A record that leads to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheInput {
    /// What is used of it, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_is_none")]
    pub selector: Option<Digest>,
    /// Place of the record.
    pub link: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn empty_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    Digest::parse(&text).map(Some).map_err(serde::de::Error::custom)
}
