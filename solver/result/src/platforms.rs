use serde::{Deserialize, Deserializer, Serialize};

/// Metadata key of the list of platforms of a result with several refs.
pub const PLATFORMS_KEY: &str = "refs.platforms";

/// Platforms of a result with several refs, in order (upstream `exptypes.Platforms`, Go JSON).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platforms {
    /// One entry per ref.
    #[serde(rename = "Platforms", default, deserialize_with = "null_is_default")]
    pub platforms: Vec<PlatformEntry>,
}

fn null_is_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PlatformEntry>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Which ref is for which platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformEntry {
    /// Id of the ref in the result, such as `linux/amd64`.
    #[serde(rename = "ID", default)]
    pub id: String,
    /// The platform in the OCI image specification's JSON; kept as it came.
    #[serde(rename = "Platform", default)]
    pub platform: serde_json::Value,
}

impl Platforms {
    /// Parses the metadata value.
    ///
    /// # Errors
    /// When it is not the JSON of a list of platforms.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        // Go writes `null` for what was never set.
        serde_json::from_slice(json).map(Option::unwrap_or_default)
    }
}
