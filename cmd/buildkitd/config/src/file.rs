use std::path::{Path, PathBuf};

use buildkit_errdefs::{Classify, Kind};

use crate::{Config, idle};

/// Why a configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("Failed to read configuration `{path}`")]
    Read {
        /// Of the file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML of the expected shape; the message names line and column.
    #[error("Failed to parse configuration `{path}`: {message}")]
    Parse {
        /// Of the file.
        path: PathBuf,
        /// What is wrong, in several lines.
        message: String,
    },
    /// A value of a flag or key makes no sense.
    #[error("{0}")]
    Invalid(String),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Parse { .. } | Self::Invalid(_) => Kind::InvalidArgument,
        }
    }
}

/// A configuration and what was not understood of it.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Keys that are not known, with dots between the levels.
    pub unknown: Vec<String>,
    /// Keys that are known and were set, but change nothing yet.
    pub idle: Vec<String>,
}

/// Reads a configuration file. A missing file is an empty configuration when `optional`.
///
/// # Errors
/// When it cannot be read or parsed.
pub fn load(path: &Path, optional: bool) -> Result<Loaded, Error> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Loaded::default());
        }
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    parse(&text).map_err(|message| Error::Parse { path: path.to_owned(), message })
}

/// Parses the text of a configuration.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Loaded, String> {
    let mut unknown = Vec::new();
    let deserializer = toml::Deserializer::parse(text).map_err(|error| error.to_string())?;
    let mut config: Config =
        serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string().replace(".?", "")))
            .map_err(|error: toml::de::Error| error.to_string())?;
    // Sections with flattened parts collect their unknown keys themselves.
    let workers = &mut config.workers;
    for (name, keys) in [("oci", &mut workers.oci.unknown), ("containerd", &mut workers.containerd.unknown)] {
        unknown.extend(std::mem::take(keys).into_keys().map(|key| format!("worker.{name}.{key}")));
    }
    let document = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    Ok(Loaded { config, unknown, idle: idle::keys(&document) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskSpace;

    #[test]
    fn known_keys_are_read_and_unknown_ones_named() {
        let text = r#"
            root = "/r"
            insecure-entitlements = ["security.insecure"]
            sparkle = 1
            [log]
            format = "json"
            [grpc]
            address = ["tcp://127.0.0.1:1"]
            gid = 5
            [worker.oci]
            enabled = true
            gc = false
            reservedSpace = "10%"
            max-parallelism = 3
            networkMode = "host"
            shiny = true
            [[worker.oci.gcpolicy]]
            filters = ["type==source.local"]
            keepDuration = "48h30m"
            maxUsedSpace = "512MB"
            [[worker.oci.gcpolicy]]
            all = true
            keepDuration = 3600
            keepBytes = 1024
            [worker.podman]
            enabled = true
            [registry."docker.io"]
            mirrors = ["m:5000/path"]
            [[registry."docker.io".keypair]]
            key = "k"
            cert = "c"
        "#;
        let loaded = parse(text).expect("valid");
        let mut unknown = loaded.unknown;
        unknown.sort();
        assert_eq!(unknown, ["sparkle", "worker.oci.shiny", "worker.podman"]);
        assert!(loaded.idle.is_empty(), "{:?}", loaded.idle);
        let config = loaded.config;
        assert_eq!(config.log.format, "json");
        let oci = config.workers.oci;
        assert_eq!(oci.gc.enabled, Some(false));
        assert_eq!(oci.gc.reserved_space, DiskSpace::Percentage(10));
        assert_eq!(oci.network.mode, "host");
        assert_eq!(oci.gc.policies[0].keep_duration.0.as_secs(), 48 * 3600 + 1800);
        assert_eq!(oci.gc.policies[0].max_used_space, DiskSpace::Bytes(512 << 20));
        assert_eq!(oci.gc.policies[1].keep_duration.0.as_secs(), 3600);
        assert_eq!(oci.gc.policies[1].keep_bytes, DiskSpace::Bytes(1024));
        assert_eq!(config.registries["docker.io"].keypair[0].key, "k");
    }

    #[test]
    fn errors_say_where() {
        assert!(parse("root = 5").expect_err("wrong type").contains("line 1"));
        assert!(parse("[worker.oci]\nreservedSpace = \"lots\"").is_err());
        assert!(parse("[[worker.oci.gcpolicy]]\nkeepDuration = \"-5 parsecs\"").is_err());
        assert!(load(Path::new("/nonexistent/x.toml"), false).is_err());
        assert!(load(Path::new("/nonexistent/x.toml"), true).is_ok());
    }
}
