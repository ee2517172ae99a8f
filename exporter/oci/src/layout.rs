//! The files of an image layout besides the blobs.

use buildkit_exporter::Error;
use buildkit_exporter_containerimage::ComposedImage;
use buildkit_util_ocispec::{Descriptor, Index, annotation, to_json};
use buildkit_util_reference::Reference;
use serde::Serialize;

/// The names of an image in their normal form, with tags.
pub(crate) fn parse_names(names: &str) -> Result<Vec<Reference>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let parse = |name: &str| {
        let parsed = Reference::parse(name);
        parsed
            .map(Reference::with_default_tag)
            .map_err(|error| Error::Invalid(format!("failed to parse {name}: {error}")))
    };
    names.split(',').map(parse).collect()
}

/// `index.json`: the image, once for each of its names.
pub(crate) fn index(image: &Descriptor, names: &[Reference]) -> Vec<u8> {
    let named = names.iter().map(|name| {
        let full = name.to_string();
        // The specification wants a tag; where there is none, the whole name tells more.
        let short = match (name.tag(), name.digest()) {
            (Some(tag), None) => tag.to_owned(),
            (Some(tag), Some(digest)) => format!("{tag}@{digest}"),
            (None, _) => full.clone(),
        };
        image
            .clone()
            .with_annotation(annotation::IMAGE_NAME, full)
            .with_annotation(annotation::REF_NAME, short)
    });
    let mut manifests: Vec<_> = named.collect();
    if manifests.is_empty() {
        manifests.push(image.clone());
    }
    to_json(&Index::new(manifests))
}

/// Where a blob is in a layout.
pub(crate) fn blob_path(blob: &Descriptor) -> String {
    format!("blobs/{}/{}", blob.digest.algorithm(), blob.digest.encoded())
}

/// What `docker load` reads of an image. What is empty is `null`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// `manifest.json`, as `docker save` writes it.
pub(crate) fn docker_manifest(image: &ComposedImage, names: &[Reference]) -> Vec<u8> {
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    to_json(&[DockerImage {
        config: blob_path(&image.config.descriptor),
        repo_tags: some(names.iter().map(Reference::familiar).collect()),
        layers: some(image.layers.iter().map(blob_path).collect()),
    }])
}
