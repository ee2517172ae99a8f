use std::collections::BTreeMap;

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_cachedigest::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::descriptor::null_is_default;
use crate::{Descriptor, Platform, media_type};

/// Bytes that a manifest, an index or a configuration may have. Registries that follow the distribution
/// specification take 4 MiB; some take more.
pub const MAX_MANIFEST: u64 = 8 << 20;

/// Manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Its own type.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What it is the manifest of, if not of an image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// What it says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of images, mostly of one for several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Its own type.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What it is the index of, if not of images.
    #[serde(rename = "artifactType", default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// The images.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// What it says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// A manifest of OCI.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: String::new(),
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Index {
    /// An index of OCI.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            artifact_type: String::new(),
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// The file `oci-layout` of an image layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// `1.0.0`.
    #[serde(rename = "imageLayoutVersion")]
    pub version: String,
}

impl Default for Layout {
    fn default() -> Self {
        Self { version: "1.0.0".to_owned() }
    }
}

/// What is read of an image's configuration. Docker has more fields than OCI; those that are not named
/// here are not kept, so an image is never written again from this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// How it is run.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: Config,
    /// Its layers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// How its layers came to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub history: Vec<History>,
}

/// How an image is run (config.md, "config").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Name or id of a user, with a group after a colon.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Program, or arguments of the entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Directory to start in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Instructions for images built from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the layers before they were compressed, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// How one layer came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// By which program, mostly.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// A document is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It has more bytes than are read.
    #[error("{what} has {size} bytes, more than the {MAX_MANIFEST} that are allowed")]
    TooLarge {
        /// Which.
        what: String,
        /// Its bytes.
        size: u64,
    },
    /// It cannot be read.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// Which.
        what: String,
        /// Why.
        reason: String,
    },
    /// It is of a kind that cannot be used.
    #[error("{what} has the unsupported media type {media_type:?}")]
    Unsupported {
        /// Which.
        what: String,
        /// Its type.
        media_type: String,
    },
}

impl Classify for DocumentError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// A manifest or an index, and never something that could be taken for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Of one image.
    Manifest(Box<Manifest>),
    /// Of several.
    Index(Box<Index>),
}

/// What tells manifests and indexes apart.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(rename = "schemaVersion", default)]
    schema_version: u32,
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(borrow, default, deserialize_with = "present")]
    config: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    layers: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    manifests: Option<&'a RawValue>,
    #[serde(rename = "fsLayers", borrow, default, deserialize_with = "present")]
    fs_layers: Option<&'a RawValue>,
}

/// A field that is `null` is there as well: so Go writes a list of nothing.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Document {
    /// Reads a document that was said to have a type: the type must fit the content, and a content that
    /// could be a manifest as well as an index is refused, so that nobody reads another image out of
    /// it. `what` names it in errors.
    ///
    /// # Errors
    /// When it cannot be read, or is not of the type.
    pub fn parse(what: &str, media_type: &str, bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(DocumentError::TooLarge { what: what.to_owned(), size: bytes.len() as u64 });
        }
        let invalid = |reason: String| DocumentError::Invalid { what: what.to_owned(), reason };
        let parsed = |error: serde_json::Error| invalid(error.to_string());
        let probe: Probe<'_> = serde_json::from_slice(bytes).map_err(parsed)?;
        if media_type == media_type::DOCKER_SCHEMA1 || probe.schema_version == 1 || probe.fs_layers.is_some()
        {
            return Err(DocumentError::Unsupported {
                what: what.to_owned(),
                media_type: media_type::DOCKER_SCHEMA1.to_owned(),
            });
        }
        if !probe.media_type.is_empty() && probe.media_type != media_type {
            let found = probe.media_type;
            return Err(invalid(format!("it says to be {found:?} and was said to be {media_type:?}")));
        }
        if media_type::is_manifest(media_type) {
            if probe.manifests.is_some() {
                return Err(invalid("a manifest must not have a list of manifests".to_owned()));
            }
            if probe.config.is_none() || probe.layers.is_none() {
                return Err(invalid("a manifest must have a config and layers".to_owned()));
            }
            return serde_json::from_slice(bytes)
                .map(|manifest| Self::Manifest(Box::new(manifest)))
                .map_err(parsed);
        }
        if media_type::is_index(media_type) {
            if probe.layers.is_some() || probe.config.is_some() {
                return Err(invalid("an index must not have a config or layers".to_owned()));
            }
            if probe.manifests.is_none() {
                return Err(invalid("an index must have a list of manifests".to_owned()));
            }
            return serde_json::from_slice(bytes).map(|index| Self::Index(Box::new(index))).map_err(parsed);
        }
        Err(DocumentError::Unsupported { what: what.to_owned(), media_type: media_type.to_owned() })
    }

    /// The type that a document says to have or, if it says none, that its fields show.
    pub fn detect(bytes: &[u8]) -> Option<String> {
        let probe: Probe<'_> = serde_json::from_slice(bytes).ok()?;
        Some(match &probe {
            Probe { fs_layers: Some(_), .. } => media_type::DOCKER_SCHEMA1.to_owned(),
            Probe { media_type, .. } if !media_type.is_empty() => probe.media_type,
            Probe { manifests: Some(_), layers: None, config: None, .. } => media_type::OCI_INDEX.to_owned(),
            Probe { manifests: None, layers: Some(_), config: Some(_), .. } => {
                media_type::OCI_MANIFEST.to_owned()
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2{extra},"config":{{"mediaType":"c","digest":"{DIGEST}","size":2}},"layers":[]}}"#
        )
    }

    #[test]
    fn a2_14_nothing_is_a_manifest_and_an_index() {
        let both = manifest(r#","manifests":[]"#);
        for media_type in [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, ""] {
            assert!(Document::parse("it", media_type, both.as_bytes()).is_err(), "{media_type}");
        }
        assert_eq!(Document::detect(both.as_bytes()), None);
        let named = manifest(r#","mediaType":"application/vnd.oci.image.index.v1+json""#);
        assert!(Document::parse("it", media_type::OCI_MANIFEST, named.as_bytes()).is_err());
        assert!(Document::parse("it", media_type::OCI_INDEX, named.as_bytes()).is_err());
        let plain = manifest("");
        assert!(matches!(
            Document::parse("it", media_type::OCI_MANIFEST, plain.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        assert_eq!(Document::detect(plain.as_bytes()).as_deref(), Some(media_type::OCI_MANIFEST));
        assert!(Document::parse("it", media_type::OCI_INDEX, plain.as_bytes()).is_err());
    }

    #[test]
    fn images_of_nothing_are_images() {
        let scratch = manifest("").replace(r#""layers":[]"#, r#""layers":null"#);
        let document = Document::parse("it", media_type::OCI_MANIFEST, scratch.as_bytes());
        assert!(matches!(document, Ok(Document::Manifest(manifest)) if manifest.layers.is_empty()));
        assert_eq!(Document::detect(scratch.as_bytes()).as_deref(), Some(media_type::OCI_MANIFEST));
    }

    #[test]
    fn a2_16_digests_are_checked_when_they_are_read() {
        for digest in [
            "sha256:../../x",
            "md5:",
            "sha256:44136FA355B3678A1146AD16F7E8649E94FB4FC21FE77E8310C060F61CAAFF8A",
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8",
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8aa",
            "sha256:/4136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        ] {
            let json = manifest("").replace(DIGEST, digest);
            let error = Document::parse("it", media_type::OCI_MANIFEST, json.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("Invalid digest"), "{error}");
        }
        let json = manifest("").replace(r#""size":2"#, r#""size":-2"#);
        assert!(Document::parse("it", media_type::OCI_MANIFEST, json.as_bytes()).is_err());
    }

    #[test]
    fn old_manifests_are_named() {
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        let error = Document::parse("it", media_type::DOCKER_SCHEMA1, old.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("prettyjws"), "{error}");
    }

    #[test]
    fn images_are_read_with_nulls() {
        let image: Image = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"User":"a","Healthcheck":{}},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#,
        )
        .unwrap();
        assert_eq!((image.config.user.as_str(), image.platform.os.as_str()), ("a", "linux"));
        assert!(image.rootfs.diff_ids.is_empty());
    }
}
