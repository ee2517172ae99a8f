use std::collections::BTreeMap;

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_ocispec::Platform;
use serde::{Deserialize, Deserializer};

use crate::key;

/// A platform that a result has a tree for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultPlatform {
    /// Names the tree in the result, mostly [`platform_id`] of the platform.
    pub id: String,
    /// The platform, normalized.
    pub platform: Platform,
}

/// Metadata of a result makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MetadataError(pub(crate) String);

impl Classify for MetadataError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, MetadataError> {
    Err(MetadataError(message.into()))
}

#[derive(Deserialize)]
struct Platforms {
    #[serde(rename = "Platforms", default, deserialize_with = "null_is_default")]
    platforms: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Platform", default)]
    platform: Platform,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The platforms of a result in order: those that it lists, or the one of its image, or `default`.
///
/// # Errors
/// When the metadata does not say what it must.
pub fn parse_platforms<V: AsRef<[u8]>>(
    metadata: &BTreeMap<String, V>,
    default: &Platform,
) -> Result<Vec<ResultPlatform>, MetadataError> {
    if let Some(json) = metadata.get(key::PLATFORMS) {
        return listed(json.as_ref());
    }
    let platform = match metadata.get(key::CONFIG) {
        Some(json) => config_platform(json.as_ref())?,
        None => default.normalized(),
    };
    Ok(vec![ResultPlatform { id: platform_id(&platform), platform }])
}

fn listed(json: &[u8]) -> Result<Vec<ResultPlatform>, MetadataError> {
    let entries = if json.is_empty() {
        Vec::new()
    } else {
        let parsed: Result<Option<Platforms>, _> = serde_json::from_slice(json);
        match parsed {
            Ok(parsed) => parsed.map(|parsed| parsed.platforms).unwrap_or_default(),
            Err(error) => {
                return invalid(format!("failed to parse platforms passed to provenance processor: {error}"));
            }
        }
    };
    if entries.is_empty() {
        return invalid("invalid empty platforms index for exporter");
    }
    let mut platforms: Vec<ResultPlatform> = Vec::with_capacity(entries.len());
    for Entry { id, platform } in entries {
        if id.is_empty() {
            return invalid("invalid empty platform key for exporter");
        }
        if platform.os.is_empty() || platform.architecture.is_empty() {
            return invalid(format!("invalid platform value {platform} for exporter"));
        }
        platforms.push(ResultPlatform { id, platform: platform.normalized() });
    }
    Ok(platforms)
}

/// The platform that the configuration of an image names, normalized.
///
/// # Errors
/// When it cannot be read, or names half of one.
pub fn config_platform(config: &[u8]) -> Result<Platform, MetadataError> {
    let platform: Option<Platform> = match serde_json::from_slice(config) {
        Ok(platform) => platform,
        Err(error) => return invalid(format!("failed to parse image config: {error}")),
    };
    let platform = platform.unwrap_or_default();
    match (platform.os.is_empty(), platform.architecture.is_empty()) {
        (false, false) => Ok(platform.normalized()),
        // Of which only the OS is known, since containers of others are not built.
        (true, true) => Ok(Platform { os: "linux".to_owned(), ..Platform::default() }),
        _ => invalid("invalid image config: os and architecture must be specified together"),
    }
}

/// The platform of the machine that this program was compiled for.
pub fn default_platform() -> Platform {
    Platform { os: "linux".to_owned(), ..Platform::native() }
}

/// The value of a key for a platform: that of the platform, or the one for all.
pub fn of_platform<'a, V>(metadata: &'a BTreeMap<String, V>, key: &str, id: Option<&str>) -> Option<&'a V> {
    id.and_then(|id| metadata.get(&format!("{key}/{id}"))).or_else(|| metadata.get(key))
}

/// The name of a platform in a result: `os/architecture[/variant]`, with version and features of the OS in
/// parentheses after it (containerd's `platforms.FormatAll`).
pub fn platform_id(platform: &Platform) -> String {
    // What has a meaning in the form.
    const ESCAPES: [(char, &str); 5] = [('%', "%25"), ('+', "%2B"), ('(', "%28"), (')', "%29"), ('/', "%2F")];
    let escape = |text: &str| {
        ESCAPES.iter().fold(text.to_owned(), |text, (char, escaped)| text.replace(*char, escaped))
    };
    if platform.os.is_empty() || (platform.os_version.is_empty() && platform.os_features.is_empty()) {
        return platform.to_string();
    }
    let mut features: Vec<String> = platform.os_features.iter().map(|feature| escape(feature)).collect();
    features.sort();
    features.dedup();
    let features: String = features.iter().map(|feature| format!("+{feature}")).collect();
    let os = format!("{}({}{features})", platform.os, escape(&platform.os_version));
    Platform { os, os_version: String::new(), os_features: Vec::new(), ..platform.clone() }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        let metadata = entries.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        match parse_platforms(&metadata, &Platform::new("linux", "x86_64")) {
            Ok(found) => Ok(found.into_iter().map(|entry| (entry.id, entry.platform.to_string())).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn platforms_of_results() {
        let one = |id: &str, platform: &str| Ok(vec![(id.to_owned(), platform.to_owned())]);
        assert_eq!(parse(&[]), one("linux/amd64", "linux/amd64"));
        assert_eq!(
            parse(&[(key::CONFIG, r#"{"os":"linux","architecture":"arm64","variant":"v8","x":1}"#)]),
            one("linux/arm64", "linux/arm64")
        );
        assert_eq!(parse(&[(key::CONFIG, "{}")]), one("linux", "linux"));
        let json = r#"{"Platforms":[{"ID":"a","Platform":{"os":"linux","architecture":"arm"}},
            {"ID":"linux/amd64","Platform":{"os":"linux","architecture":"amd64"}}]}"#;
        assert_eq!(
            parse(&[(key::PLATFORMS, json)]),
            Ok(vec![
                ("a".to_owned(), "linux/arm/v7".to_owned()),
                ("linux/amd64".to_owned(), "linux/amd64".to_owned())
            ])
        );
    }

    #[test]
    fn what_is_wrong_with_platforms_is_told() {
        for (key, value, text) in [
            (key::PLATFORMS, "", "invalid empty platforms index for exporter"),
            (key::PLATFORMS, "null", "invalid empty platforms index for exporter"),
            (key::PLATFORMS, r#"{"Platforms":null}"#, "invalid empty platforms index for exporter"),
            (key::PLATFORMS, r#"{"Platforms":[{}]}"#, "invalid empty platform key for exporter"),
            (
                key::PLATFORMS,
                r#"{"Platforms":[{"ID":"a","Platform":{"os":"linux"}}]}"#,
                "invalid platform value linux for exporter",
            ),
            (
                key::CONFIG,
                r#"{"os":"linux"}"#,
                "invalid image config: os and architecture must be specified together",
            ),
        ] {
            assert_eq!(parse(&[(key, value)]).unwrap_err(), text);
        }
        let error = parse(&[(key::PLATFORMS, "[")]).unwrap_err();
        assert!(error.starts_with("failed to parse platforms passed to provenance processor: "), "{error}");
    }

    #[test]
    fn ids_have_versions_of_systems() {
        let windows = Platform {
            os_version: "10.0.17763".to_owned(),
            os_features: vec!["win32k".to_owned(), "a+b".to_owned()],
            ..Platform::new("windows", "amd64")
        };
        assert_eq!(platform_id(&windows), "windows(10.0.17763+a%2Bb+win32k)/amd64");
        let plain = Platform { os_features: Vec::new(), ..windows };
        assert_eq!(platform_id(&plain), "windows(10.0.17763)/amd64");
        assert_eq!(platform_id(&Platform::new("linux", "arm").normalized()), "linux/arm/v7");
        assert_eq!(platform_id(&Platform::default()), "unknown");
    }

    #[test]
    fn values_of_platforms_go_before_those_for_all() {
        let metadata = BTreeMap::from([("k".to_owned(), 1), ("k/a".to_owned(), 2)]);
        assert_eq!(of_platform(&metadata, "k", Some("a")), Some(&2));
        assert_eq!(of_platform(&metadata, "k", Some("b")), Some(&1));
        assert_eq!(of_platform(&metadata, "k", None), Some(&1));
        assert_eq!(of_platform(&metadata, "l", None), None);
    }
}
