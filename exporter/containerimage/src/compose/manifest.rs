use std::collections::BTreeMap;

use buildkit_cache::LayerInfo;
use buildkit_exporter_util_epoch::Timestamp;
use buildkit_util_ocispec::{Descriptor, annotation, media_type, to_json_pretty};
use bytes::Bytes;
use serde::Serialize;

use super::config::{self, Patch};
use super::{ComposeError, history};
use crate::Annotations;

/// Bytes, and what names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Bytes,
}

impl Blob {
    fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { descriptor: Descriptor::of(media_type, &bytes), bytes: bytes.into() }
    }
}

/// What all documents of an export have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// OCI's media types, and not Docker's.
    pub oci: bool,
    /// Layers that registries must not give away keep that.
    pub prefer_nondist: bool,
}

/// What an image for one platform is composed of.
#[derive(Clone, Debug)]
pub struct ImageInput<'a> {
    /// Its configuration as the frontend gave it; of none, [`default_config`](super::default_config).
    pub config: &'a [u8],
    /// The configuration of the image that it is based on.
    pub base_config: Option<&'a [u8]>,
    /// Cache records to be put into it.
    pub inline_cache: Option<&'a [u8]>,
    /// The layers, lowest first, with annotations about what they were before they were compressed.
    pub layers: Vec<Descriptor>,
    /// What is known of the topmost layers.
    pub infos: Vec<LayerInfo>,
    /// What no time in the documents is later than, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Annotations for the manifest and its descriptor.
    pub annotations: Annotations,
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposedImage {
    /// The manifest. Its descriptor has the annotations that were asked for.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The layers as the manifest names them.
    pub layers: Vec<Descriptor>,
}

/// As Go writes it: what is empty is `null`.
#[derive(Serialize)]
struct ManifestJson<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    config: &'a Descriptor,
    layers: Option<&'a [Descriptor]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct IndexJson<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    manifests: Option<&'a [Descriptor]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

fn not_empty<T>(items: &[T]) -> Option<&[T]> {
    Some(items).filter(|items| !items.is_empty())
}

/// Composes configuration and manifest.
///
/// # Errors
/// When the configuration makes no sense.
pub fn compose_image(input: ImageInput<'_>, style: Style) -> Result<ComposedImage, ComposeError> {
    let told =
        history::read(input.config).map_err(ComposeError::json("failed to unmarshal history from config"))?;
    let base_history = input.base_config.map(history::of_base).transpose()?.unwrap_or_default();
    let diff_id =
        |layer: &Descriptor| layer.diff_id().ok_or_else(|| ComposeError::NoDiffId(layer.digest.clone()));
    let patch = Patch {
        diff_ids: input.layers.iter().map(diff_id).collect::<Result<_, _>>()?,
        history: history::normalize(told, input.layers.len(), &input.infos),
        epoch: input.epoch.map(Timestamp::from_seconds).transpose()?,
        base_history: &base_history,
        inline_cache: input.inline_cache,
    };
    let (manifest_type, config_type) = match style.oci {
        true => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        false => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
    };
    let config = Blob::new(config_type, config::patch(input.config, patch)?);
    let layers: Vec<_> = input.layers.into_iter().map(|layer| published(layer, style)).collect();
    let mut manifest = Blob::new(
        manifest_type,
        to_json_pretty(&ManifestJson {
            schema_version: 2,
            media_type: manifest_type,
            config: &config.descriptor,
            layers: not_empty(&layers),
            annotations: &input.annotations.manifest,
        }),
    );
    manifest.descriptor.annotations = input.annotations.manifest_descriptor;
    Ok(ComposedImage { manifest, config, layers })
}

/// Composes the index of several manifests, in their order.
pub fn compose_index(manifests: &[Descriptor], annotations: Annotations, style: Style) -> Blob {
    let media_type = if style.oci { media_type::OCI_INDEX } else { media_type::DOCKER_LIST };
    let mut index = Blob::new(
        media_type,
        to_json_pretty(&IndexJson {
            schema_version: 2,
            media_type,
            manifests: not_empty(manifests),
            annotations: &annotations.index,
        }),
    );
    index.descriptor.annotations = annotations.index_descriptor;
    index
}

/// The descriptor of a layer as others may see it: in the types of the image, without annotations that
/// are for this daemon. Docker's have none.
fn published(mut layer: Descriptor, style: Style) -> Descriptor {
    let converted = media_type::convert_layer(&layer.media_type, true);
    let converted = if style.prefer_nondist && !layer.urls.is_empty() {
        nondistributable(converted)
    } else {
        layer.urls.clear();
        media_type::distributable(converted)
    };
    layer.media_type = media_type::convert_layer(converted, style.oci).to_owned();
    layer.annotations.retain(|key, _| {
        style.oci
            && key != annotation::UNCOMPRESSED
            && key != annotation::CREATED_AT
            && !key.starts_with(annotation::DISTRIBUTION_SOURCE)
    });
    layer
}

fn nondistributable(media_type: &str) -> &str {
    match media_type {
        media_type::OCI_LAYER => media_type::OCI_NONDIST_LAYER,
        media_type::OCI_LAYER_GZIP => media_type::OCI_NONDIST_LAYER_GZIP,
        media_type::OCI_LAYER_ZSTD => media_type::OCI_NONDIST_LAYER_ZSTD,
        other => other,
    }
}
