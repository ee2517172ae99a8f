use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_exporter_containerimage_exptypes::key;
use serde::de::Error as _;

/// The configuration of an image in the metadata of an input: an object whose values are base64.
pub(crate) fn image_config_of(json: &str) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let metadata: Option<BTreeMap<String, Option<String>>> = serde_json::from_str(json)?;
    let config = metadata.unwrap_or_default().remove(key::CONFIG).flatten();
    config.map(|config| STANDARD.decode(config).map_err(serde_json::Error::custom)).transpose()
}
