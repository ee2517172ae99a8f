use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_cache_remotecache_v1::types::CACHE_CONFIG;
use buildkit_cache_remotecache_v1::{MAX_CONFIG, Records};
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::{
    Descriptor, Document, DocumentError, Image, Index, MAX_MANIFEST, Manifest, annotation,
};
use buildkit_util_pull::DocumentSource;
use bytes::Bytes;
use serde::Deserialize;

use crate::Error;

/// Manifests that are looked at below one index.
const MAX_MANIFESTS: usize = 64;

/// Annotation of layers of images that says what made them, for people.
pub const DESCRIPTION: &str = "buildkit/description";

/// Reads what a source has: the manifest of a cache, or an image with the records of all its platforms. An
/// image without records is a cache that has nothing. Layers have an annotation that says what they were before
/// they were compressed, where that is known; those of images also say when and by what they were made.
///
/// # Errors
/// When the source fails, or a document is too large or makes no sense.
pub async fn read_cache(source: &dyn DocumentSource) -> Result<Vec<Records>, Error> {
    let (root, bytes) = source.resolve().await?;
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => read(source, &root).await?,
    };
    match parse(&root, &bytes)? {
        Document::Manifest(manifest) if manifest.config.media_type == CACHE_CONFIG => {
            Ok(vec![records(source, &manifest.config, manifest.layers).await?])
        }
        Document::Index(mut index) => {
            let config = index.manifests.iter().position(|entry| entry.media_type == CACHE_CONFIG);
            match config.map(|place| index.manifests.remove(place)) {
                Some(config) => Ok(vec![records(source, &config, index.manifests).await?]),
                None => images(source, &root, *index).await,
            }
        }
        Document::Manifest(manifest) => Ok(image(source, &manifest).await?.into_iter().collect()),
    }
}

/// The records of all images below an index.
async fn images(source: &dyn DocumentSource, root: &Descriptor, index: Index) -> Result<Vec<Records>, Error> {
    let mut found = Vec::new();
    let (mut pending, mut seen) = (index.manifests, Vec::<Digest>::new());
    while let Some(entry) = pending.pop() {
        if seen.contains(&entry.digest) {
            continue;
        }
        if seen.len() >= MAX_MANIFESTS {
            let reason = format!("it has more than {MAX_MANIFESTS} manifests");
            return Err(Error::Image { digest: root.digest.clone(), reason });
        }
        seen.push(entry.digest.clone());
        match parse(&entry, &read(source, &entry).await?)? {
            Document::Manifest(manifest) => found.extend(image(source, &manifest).await?),
            Document::Index(index) => {
                // More than will be looked at need not be kept.
                pending.extend(index.manifests.into_iter().take(MAX_MANIFESTS + 1));
            }
        }
    }
    Ok(found)
}

fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Document, Error> {
    let what = format!("manifest {}", descriptor.digest);
    Ok(Document::parse(&what, &descriptor.media_type, bytes)?)
}

async fn read(source: &dyn DocumentSource, document: &Descriptor) -> Result<Bytes, Error> {
    if document.size > MAX_MANIFEST {
        let what = format!("document {}", document.digest);
        return Err(DocumentError::TooLarge { what, size: document.size }.into());
    }
    Ok(source.document(document).await?)
}

/// The records that a manifest of a cache has as its configuration.
async fn records(
    source: &dyn DocumentSource,
    config: &Descriptor,
    layers: Vec<Descriptor>,
) -> Result<Records, Error> {
    if config.size > MAX_CONFIG as u64 {
        let size = config.size;
        let reason = format!("its records have {size} bytes, more than the {MAX_CONFIG} that are allowed");
        return Err(Error::Image { digest: config.digest.clone(), reason });
    }
    let bytes = read(source, config).await?;
    Records::parse(&bytes, layers).map_err(|source| Error::Records { digest: config.digest.clone(), source })
}

/// What is read of the configuration of an image besides that.
#[derive(Deserialize)]
struct Inline {
    /// Records in base64.
    #[serde(rename = "moby.buildkit.cache.v0", default)]
    cache: Option<String>,
}

/// The records inside of an image, if it has some.
async fn image(source: &dyn DocumentSource, manifest: &Manifest) -> Result<Option<Records>, Error> {
    if manifest.layers.is_empty() {
        return Ok(None);
    }
    let digest = &manifest.config.digest;
    let bytes = read(source, &manifest.config).await?;
    let invalid = |reason: String| Error::Image { digest: digest.clone(), reason };
    // An attestation, for one, has a configuration that is none.
    let Ok(Inline { cache: Some(text) }) = serde_json::from_slice(&bytes) else { return Ok(None) };
    let image: Image = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    if image.rootfs.diff_ids.len() != manifest.layers.len() {
        tracing::warn!(%digest, "invalid image with mismatching manifest and config");
        return Ok(None);
    }
    let json = STANDARD.decode(text).map_err(|error| invalid(error.to_string()))?;
    let mut made = image.history.iter().filter(|step| !step.empty_layer);
    let layers = manifest.layers.iter().zip(&image.rootfs.diff_ids).map(|(layer, diff_id)| {
        let mut layer = layer.clone().with_annotation(annotation::UNCOMPRESSED, diff_id.as_str());
        if let Some(step) = made.next() {
            if let Some(created) = &step.created {
                layer = layer.with_annotation(annotation::CREATED_AT, created.as_str());
            }
            if !step.created_by.is_empty() {
                layer = layer.with_annotation(DESCRIPTION, step.created_by.as_str());
            }
        }
        layer
    });
    let records = Records::from_inline(&json, layers.collect());
    records.map(Some).map_err(|source| Error::Records { digest: digest.clone(), source })
}
