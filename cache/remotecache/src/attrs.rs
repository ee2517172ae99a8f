//! Options that caches of several kinds have.

use std::collections::BTreeMap;

use buildkit_util_compression::{Compression, Config};
use buildkit_util_gotext::{bool_error, parse_bool};

use crate::{CacheFormat, Error};

/// How a cache is to be written.
pub(crate) fn format(attrs: &BTreeMap<String, String>) -> Result<CacheFormat, Error> {
    let oci = flag(attrs, "oci-mediatypes")?.unwrap_or(true);
    let image_manifest = flag(attrs, "image-manifest")?.unwrap_or(oci);
    if image_manifest && !oci {
        let text = "invalid configuration for remote cache, OCI mediatypes are required for image-manifest \
                    cache format";
        return Err(Error::Option(text.to_owned()));
    }
    Ok(CacheFormat { image_manifest, oci })
}

/// An option that is on or off: what Go's `strconv.ParseBool` takes.
pub(crate) fn flag(attrs: &BTreeMap<String, String>, key: &str) -> Result<Option<bool>, Error> {
    let Some(text) = attrs.get(key) else { return Ok(None) };
    match parse_bool(text) {
        Some(value) => Ok(Some(value)),
        None => Err(Error::Option(format!("failed to parse {key}: {}", bool_error(text)))),
    }
}

/// How layers are to be compressed that are made for a cache.
pub(crate) fn compression(attrs: &BTreeMap<String, String>) -> Result<Config, Error> {
    let mut config = Config::default();
    if let Some(kind) = attrs.get("compression") {
        config.kind = kind.parse::<Compression>().map_err(|error| Error::Option(error.to_string()))?;
    }
    if let Some(level) = attrs.get("compression-level") {
        let parsed = level.parse();
        let text = || Error::Option(format!("non-integer value {level} specified for compression-level"));
        config.level = Some(parsed.map_err(|_| text())?);
    }
    config.force = flag(attrs, "force-compression")?.unwrap_or_default();
    Ok(config)
}
