use std::collections::BTreeMap;

use buildkit_util_cachedigest::Digest;
use serde::{Deserialize, Deserializer, Serialize};

use crate::descriptor::null_is_default;
use crate::{History, Platform};

/// An image's configuration with the fields that Docker adds to OCI's, to be written again.
///
/// Fields stand in the order in which Go's `docker-image-spec` writes them, so that equal images have equal
/// bytes ([`to_json`](crate::to_json)). Fields that neither specification has are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerImage {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub author: String,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// Its layers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: DockerRootFs,
    /// How its layers came to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "history")]
    pub history: Vec<History>,
    /// How it is run.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: DockerConfig,
}

/// The layers of a [`DockerImage`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerRootFs {
    /// `layers`.
    #[serde(rename = "type", default, deserialize_with = "null_is_default")]
    pub kind: String,
    /// Digests of the layers before they were compressed, lowest first. `None` is `null`, which an image
    /// has that no layers are known of yet.
    #[serde(default)]
    pub diff_ids: Option<Vec<Digest>>,
}

/// A set as Go writes it: an object whose values say nothing.
pub type Set = BTreeMap<String, Empty>;

/// `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How a [`DockerImage`] is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerConfig {
    /// Name or id of a user, with a group after a colon.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// `port/protocol`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub exposed_ports: Set,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Program, or arguments of the entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Directories that hold data of containers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub volumes: Set,
    /// Directory to start in.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Name or number of the signal that asks a container to end.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Arguments are escaped for Windows already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    /// How it is found out whether a container works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for images built from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// What command lines are given to; empty is the platform's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub shell: Vec<String>,
}

/// How it is found out whether a container works. Times are nanoseconds; 0 is that of the base image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// Empty for that of the base image, `NONE`, `CMD` with arguments, or `CMD-SHELL` with a command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Between two tests.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub interval: i64,
    /// Until a test counts as failed.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub timeout: i64,
    /// After the start, while failures do not count.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub start_period: i64,
    /// Between two tests during the start.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub start_interval: i64,
    /// Failures in a row until it does not work; 0 is the number of the base image.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A time in the form that Go gives it when it has read it.
fn normalized_time(text: String) -> String {
    let Some(separator) = text.find('T') else { return text };
    let zone = text[separator..].find(['Z', '+', '-']).map_or(text.len(), |at| separator + at);
    let (time, zone) = text.split_at(zone);
    let time = match time.split_once('.') {
        Some((seconds, fraction)) => match fraction.trim_end_matches('0') {
            "" => seconds.to_owned(),
            fraction => format!("{seconds}.{fraction}"),
        },
        None => time.to_owned(),
    };
    let zone = if zone == "+00:00" { "Z" } else { zone };
    time + zone
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(normalized_time))
}

fn history<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<History>, D::Error> {
    let mut history: Vec<History> = null_is_default(deserializer)?;
    for entry in &mut history {
        entry.created = entry.created.take().map(normalized_time);
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_written_as_go_writes_them() {
        let read = r#"{"created":"2024-01-02T03:04:05.120000Z","config":{"OnBuild":["RUN x"],"Labels":null,
            "ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["NONE"],"Interval":5},"Env":["A=<b>"]},
            "os":"linux","architecture":"arm","variant":"v7","unknown":1,
            "history":[{"created":"2024-01-02T03:04:05+00:00","created_by":"x","empty_layer":true}],
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let image: DockerImage = serde_json::from_str(read).unwrap();
        let written = concat!(
            r#"{"created":"2024-01-02T03:04:05.12Z","architecture":"arm","os":"linux","variant":"v7","#,
            r#""rootfs":{"type":"layers","diff_ids":null},"#,
            r#""history":[{"created":"2024-01-02T03:04:05Z","created_by":"x","empty_layer":true}],"#,
            r#""config":{"ExposedPorts":{"80/tcp":{}},"Env":["A=\u003cb\u003e"],"#,
            r#""Healthcheck":{"Test":["NONE"],"Interval":5},"OnBuild":["RUN x"]}}"#
        );
        assert_eq!(String::from_utf8(crate::to_json(&image)).unwrap(), written);
    }

    #[test]
    fn times_are_those_of_go() {
        for (text, want) in [
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.000Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.10+02:00", "2024-01-02T03:04:05.1+02:00"),
            ("2024-01-02T03:04:05-07:00", "2024-01-02T03:04:05-07:00"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(normalized_time(text.to_owned()), want);
        }
    }
}
