use std::collections::BTreeMap;

use buildkit_exporter_util_epoch::Timestamp;
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::{Config, Image, Platform, to_json};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::ComposeError;
use super::history::{self, History};

/// Key that cache records are put into a configuration with.
const INLINE_CACHE: &str = "moby.buildkit.cache.v0";
/// Where programs are, if an image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of an image that nobody gave one for.
pub fn default_config(platform: &Platform) -> Vec<u8> {
    to_json(&Image {
        platform: platform.normalized(),
        config: Config { env: vec![PATH.to_owned()], working_dir: "/".to_owned(), ..Config::default() },
        ..Image::default()
    })
}

/// What a configuration gets.
pub(super) struct Patch<'a> {
    pub(super) diff_ids: Vec<Digest>,
    pub(super) history: Option<Vec<History>>,
    pub(super) epoch: Option<Timestamp>,
    pub(super) base_history: &'a [History],
    pub(super) inline_cache: Option<&'a [u8]>,
}

/// What is read of a configuration. What its layers are said to be does not matter.
#[derive(Deserialize)]
struct Head {
    os: Option<String>,
    architecture: Option<String>,
    created: Option<Timestamp>,
    /// Is an object.
    #[serde(rename = "config")]
    _config: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    /// `null` if there are none.
    diff_ids: Option<Vec<Digest>>,
}

/// The configuration with its layers, history and times. What is not known here stays as it is.
pub(super) fn patch(config: &[u8], patch: Patch<'_>) -> Result<Vec<u8>, ComposeError> {
    let head: Option<Head> =
        serde_json::from_slice(config).map_err(ComposeError::json("invalid image config for export"))?;
    let Some(head) = head else { return Err(ComposeError::Null) };
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(config)
        .map_err(ComposeError::json("failed to parse image config for patch"))?;
    for (name, value) in [("os", head.os), ("architecture", head.architecture)] {
        if value.is_none_or(|value| value.is_empty()) {
            return Err(ComposeError::Missing(name));
        }
    }
    let raw_error = || ComposeError::json("failed to write image config");
    for value in fields.values_mut() {
        *value = compact(value).map_err(raw_error())?;
    }
    let mut set = |key: &str, value: Box<RawValue>| fields.insert(key.to_owned(), value);

    let diff_ids = Some(patch.diff_ids).filter(|diff_ids| !diff_ids.is_empty());
    set("rootfs", to_raw_value(&RootFs { kind: "layers", diff_ids }).map_err(raw_error())?);
    let mut history = patch.history;
    let entries = history.as_deref_mut().unwrap_or_default();
    if let Some(epoch) = patch.epoch {
        history::clamp(entries, patch.base_history, epoch);
    }
    let last = entries.iter().rev().find_map(|entry| entry.created);
    set("history", to_raw_value(&history).map_err(raw_error())?);
    if let Some(cache) = patch.inline_cache {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(cache);
        set(INLINE_CACHE, to_raw_value(&text).map_err(raw_error())?);
    }
    let created = match (fields.contains_key("created"), patch.epoch) {
        (false, _) => Some(last),
        (true, Some(epoch)) if head.created.is_some_and(|created| created > epoch) => Some(Some(epoch)),
        (true, _) => None,
    };
    if let Some(created) = created {
        fields.insert("created".to_owned(), to_raw_value(&created).map_err(raw_error())?);
    }
    Ok(to_json(&fields))
}

/// The same JSON without white space between its parts.
fn compact(value: &RawValue) -> Result<Box<RawValue>, serde_json::Error> {
    let mut out = String::with_capacity(value.get().len());
    let (mut in_text, mut is_escaped) = (false, false);
    for char in value.get().chars() {
        if in_text {
            in_text = is_escaped || char != '"';
            is_escaped = !is_escaped && char == '\\';
        } else if matches!(char, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            in_text = char == '"';
        }
        out.push(char);
    }
    RawValue::from_string(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simple(config: &str, epoch: Option<i64>) -> Result<String, String> {
        let patch_of = Patch {
            diff_ids: Vec::new(),
            history: None,
            epoch: epoch.map(|seconds| Timestamp::from_seconds(seconds).unwrap()),
            base_history: &[],
            inline_cache: None,
        };
        match patch(config.as_bytes(), patch_of) {
            Ok(bytes) => Ok(String::from_utf8(bytes).unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_is_not_known_stays() {
        let config = r#" { "z" : [ 1, 1.50e3 , {"b":"<a> \" \\", "a":null} ], "os":"linux",
            "architecture":"amd64", "é":"\u00e9 é", "created":"2020-01-01T00:00:00.5+01:00" }"#;
        let tail = r#""os":"linux","rootfs":{"type":"layers","diff_ids":null},"z":[1,1.50e3,{"b":"\u003ca\u003e \" \\","a":null}],"é":"\u00e9 é"}"#;
        assert_eq!(
            simple(config, None).unwrap(),
            format!(
                r#"{{"architecture":"amd64","created":"2020-01-01T00:00:00.5+01:00","history":null,{tail}"#
            )
        );
        assert_eq!(
            simple(config, Some(7)).unwrap(),
            format!(r#"{{"architecture":"amd64","created":"1970-01-01T00:00:07Z","history":null,{tail}"#)
        );
    }

    #[test]
    fn configurations_that_make_no_sense_are_refused() {
        for (config, text) in [
            ("null", "invalid null image config for export"),
            ("{}", "invalid image config for export: missing os"),
            (r#"{"os":"linux"}"#, "invalid image config for export: missing architecture"),
        ] {
            assert_eq!(simple(config, None).unwrap_err(), text);
        }
        for config in ["", "{", "[]", r#"{"os":1}"#, r#"{"created":"now"}"#, r#"{"config":[]}"#] {
            let error = simple(config, None).unwrap_err();
            assert!(error.starts_with("invalid image config for export: "), "{config}: {error}");
        }
    }

    #[test]
    fn cache_records_are_put_in() {
        let config = br#"{"architecture":"amd64","os":"linux","moby.buildkit.cache.v0":"b2xk"}"#;
        let patch_of = Patch {
            diff_ids: vec![Digest::sha256("layer")],
            history: Some(Vec::new()),
            epoch: None,
            base_history: &[],
            inline_cache: Some(b"[{}]"),
        };
        let expect = format!(
            r#"{{"architecture":"amd64","created":null,"history":[],"moby.buildkit.cache.v0":"W3t9XQ==","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::sha256("layer")
        );
        assert_eq!(String::from_utf8(patch(config, patch_of).unwrap()).unwrap(), expect);
    }

    #[test]
    fn nothing_has_a_configuration_too() {
        let config = String::from_utf8(default_config(&Platform::new("linux", "x86_64"))).unwrap();
        assert_eq!(
            config,
            format!(
                r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["{PATH}"],"WorkingDir":"/"}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
            )
        );
    }
}
