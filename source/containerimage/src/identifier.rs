use std::collections::BTreeMap;

use buildkit_cache::RecordType;
use buildkit_source::Error;
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::Platform;

/// What the attributes of a source say about an image, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) platform: Platform,
    pub(crate) record_type: RecordType,
    /// Layers to use, counted from the lowest.
    pub(crate) layer_limit: Option<usize>,
    /// Digest that the image must have.
    pub(crate) checksum: Option<Digest>,
}

impl Options {
    pub(crate) fn new(platform: Option<&Platform>) -> Self {
        Self {
            platform: platform.cloned().unwrap_or_default(),
            record_type: RecordType::Regular,
            layer_limit: None,
            checksum: None,
        }
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::Invalid(message.into())
}

pub(crate) fn layer_limit(text: &str) -> Result<usize, Error> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| invalid(format!("invalid layer limit {text}")))
}

pub(crate) fn record_type(text: &str) -> Result<RecordType, Error> {
    Ok(match text {
        "" | "regular" => RecordType::Regular,
        "internal" => RecordType::Internal,
        "frontend" => RecordType::Frontend,
        other => return Err(invalid(format!("invalid record type {other}"))),
    })
}

pub(crate) fn checksum(text: &str) -> Result<Digest, Error> {
    Digest::parse(text).map_err(|error| invalid(format!("invalid image checksum {text}: {error}")))
}

/// Checks where an image may be taken from. There is no store of images here, so that it makes no difference.
pub(crate) fn resolve_mode(text: &str) -> Result<(), Error> {
    match text {
        "" | "default" | "pull" | "local" => Ok(()),
        other => Err(invalid(format!("invalid resolvemode: {other}"))),
    }
}

/// What is said in the attributes of an image of a registry; those that are not known are passed over.
pub(crate) fn registry_options(
    platform: Option<&Platform>,
    attrs: &BTreeMap<String, String>,
) -> Result<Options, Error> {
    use buildkit_solver_pb::attr;
    let mut options = Options::new(platform);
    for (key, value) in attrs {
        match key.as_str() {
            attr::IMAGE_RESOLVE_MODE => resolve_mode(value)?,
            attr::IMAGE_RECORD_TYPE => options.record_type = record_type(value)?,
            attr::IMAGE_LAYER_LIMIT => options.layer_limit = Some(layer_limit(value)?),
            attr::IMAGE_CHECKSUM => options.checksum = Some(checksum(value)?),
            _ => {}
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_checked() {
        let options = |key: &str, value: &str| {
            registry_options(None, &BTreeMap::from([(key.to_owned(), value.to_owned())]))
        };
        assert_eq!(options("image.layerlimit", "2").unwrap().layer_limit, Some(2));
        assert_eq!(options("image.recordtype", "frontend").unwrap().record_type, RecordType::Frontend);
        assert!(options("image.unknown", "x").is_ok());
        for (key, value, text) in [
            ("image.layerlimit", "0", "invalid layer limit 0"),
            ("image.layerlimit", "-1", "invalid layer limit -1"),
            ("image.layerlimit", "x", "invalid layer limit x"),
            ("image.recordtype", "x", "invalid record type x"),
            ("image.resolvemode", "x", "invalid resolvemode: x"),
            ("image.checksum", "x", "invalid image checksum x"),
        ] {
            let error = options(key, value).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
