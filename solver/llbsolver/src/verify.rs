//! Holds the platforms of a result against those that were asked for. Texts are upstream's.

use std::collections::BTreeSet;

use buildkit_solver_pb::Platform;
use buildkit_solver_result::{BuildResult, PLATFORMS_KEY, Platforms, Refs};
use serde_json::Value;

/// Metadata key of an image configuration, which names a platform.
const IMAGE_CONFIG_KEY: &str = "containerimage.config";

/// Operating systems that stand alone in a request; any other word is an architecture.
const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "macos",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
];

/// What people should know of the platforms of a result. `requested` is empty for the default one.
///
/// # Errors
/// When the result does not say what its refs are for.
pub(crate) fn check_platforms<R>(
    requested: &[String],
    default: &Platform,
    result: &BuildResult<R>,
) -> Result<Vec<String>, String> {
    let mapping = result.metadata.get(PLATFORMS_KEY);
    let is_map = matches!(&result.refs, Refs::Many(refs) if !refs.is_empty());
    if mapping.is_none() && is_map {
        return Err("build result contains multiple refs without platforms mapping".to_owned());
    }
    if mapping.is_none() && matches!(&result.refs, Refs::Single(None) | Refs::Many(_)) {
        return Ok(Vec::new());
    }
    let delivered: Vec<Platform> = match mapping {
        Some(json) => {
            let platforms = Platforms::parse(json)
                .map_err(|error| format!("failed to parse platforms of the result: {error}"))?
                .platforms;
            if platforms.is_empty() {
                return Err("invalid empty platforms index for exporter".to_owned());
            }
            platforms.iter().map(|entry| from_json(&entry.platform)).collect()
        }
        None => {
            let config = result.metadata.get(IMAGE_CONFIG_KEY);
            let config = config.and_then(|json| serde_json::from_slice(json).ok());
            vec![config.map_or_else(|| default.clone(), |config: Value| from_json(&config))]
        }
    };
    let delivered: Vec<String> = delivered.iter().map(name).collect();
    let mut wanted = BTreeSet::new();
    let mut warnings = Vec::new();
    for text in requested {
        // What cannot be read here is not judged either.
        let Some(platform) = parse(text, default) else { return Ok(Vec::new()) };
        if !wanted.insert(name(&platform)) {
            warnings.push(format!("Duplicate platform result requested {text:?}"));
        }
    }
    if requested.is_empty() {
        wanted.insert(name(default));
    }
    if !warnings.is_empty() {
        return Ok(warnings);
    }
    let matches = delivered.iter().all(|name| wanted.contains(name));
    Ok(match (wanted.len(), delivered.as_slice()) {
        (1, [_]) if matches => Vec::new(),
        (1, [one]) => {
            let wanted = requested.first().cloned().unwrap_or_else(|| name(default));
            vec![format!("Requested platform {wanted:?} does not match result platform {one:?}")]
        }
        (many, _) if many > 1 && !is_map => {
            vec!["Multiple platforms requested but result is not multi-platform".to_owned()]
        }
        (count, _) if count == delivered.len() && matches => Vec::new(),
        _ => {
            let wanted: Vec<String> = wanted.into_iter().collect();
            let mut delivered = delivered;
            delivered.sort_unstable();
            let (wanted, delivered) = (wanted.join(","), delivered.join(","));
            vec![format!("Requested platforms {wanted} do not match result platforms {delivered}")]
        }
    })
}

/// The name by which platforms are compared. Versions of operating systems are left out: results
/// often have one where requests do not.
fn name(platform: &Platform) -> String {
    platform.normalized().to_string()
}

fn parse(text: &str, default: &Platform) -> Option<Platform> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|part| part.is_empty() || part.contains('(')) {
        return None;
    }
    Some(match parts[..] {
        [os] if SYSTEMS.contains(&os.to_lowercase().as_str()) => {
            Platform { variant: default.variant.clone(), ..Platform::new(os, &default.architecture) }
        }
        [architecture] => Platform::new(&default.os, architecture),
        [os, architecture] => Platform::new(os, architecture),
        [os, architecture, variant] => {
            Platform { variant: variant.to_owned(), ..Platform::new(os, architecture) }
        }
        _ => return None,
    })
}

fn from_json(json: &Value) -> Platform {
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Platform { variant: text("variant"), ..Platform::new(text("os"), text("architecture")) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(requested: &str, delivered: &[&str]) -> Result<Vec<String>, String> {
        let requested: Vec<String> =
            requested.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
        let mut result = BuildResult::single(Some(()));
        if !delivered.is_empty() {
            let entries: Vec<Value> = delivered
                .iter()
                .map(|id| {
                    let (os, architecture) = id.split_once('/').expect("platform");
                    serde_json::json!({"ID": id, "Platform": {"os": os, "architecture": architecture}})
                })
                .collect();
            let json = serde_json::json!({ "Platforms": entries }).to_string();
            let refs: BTreeMap<_, _> = delivered.iter().map(|id| ((*id).to_owned(), Some(()))).collect();
            result.refs = Refs::Many(refs);
            result.metadata.insert(PLATFORMS_KEY.to_owned(), json.into());
        }
        check_platforms(&requested, &Platform::new("linux", "amd64"), &result)
    }

    #[test]
    fn platforms_are_held_against_the_request() {
        let single = "Multiple platforms requested but result is not multi-platform";
        let other = "Requested platform \"linux/arm64\" does not match result platform \"linux/amd64\"";
        let both = "Requested platforms linux/amd64,linux/arm64 do not match result platforms linux/amd64";
        for (requested, delivered, expected) in [
            ("", &[][..], None),
            ("linux/amd64", &[], None),
            ("amd64", &[], None),
            ("linux", &[], None),
            ("linux(x)/amd64", &[], None),
            ("linux/x86_64", &["linux/amd64"], None),
            ("linux/arm64", &[], Some(other)),
            ("linux/amd64,linux/arm64", &[], Some(single)),
            ("linux/amd64,linux/arm64", &["linux/arm64", "linux/amd64"], None),
            ("linux/amd64,linux/arm64", &["linux/amd64"], Some(both)),
            ("linux/amd64,amd64", &[], Some("Duplicate platform result requested \"amd64\"")),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(check(requested, delivered), Ok(expected), "{requested}");
        }
        let refs = Refs::Many(BTreeMap::from([("a".to_owned(), Some(()))]));
        let result = BuildResult { refs, ..BuildResult::default() };
        check_platforms(&[], &Platform::new("linux", "amd64"), &result)
            .expect_err("says nothing of its refs");
        let empty = BuildResult::<()>::default();
        assert_eq!(
            check_platforms(&["x/y".to_owned()], &Platform::new("linux", "amd64"), &empty),
            Ok(vec![])
        );
    }

    #[test]
    fn a_list_of_nothing_is_refused() {
        for json in ["null", "{}", r#"{"Platforms":null}"#] {
            let metadata = BTreeMap::from([(PLATFORMS_KEY.to_owned(), json.into())]);
            let result = BuildResult { metadata, ..BuildResult::single(Some(())) };
            let error = check_platforms(&[], &Platform::default(), &result).expect_err(json);
            assert_eq!(error, "invalid empty platforms index for exporter");
        }
    }
}
