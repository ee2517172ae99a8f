//! Holds what is composed against what the Go daemon made of the same input.

use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_cache::LayerInfo;
use buildkit_exporter::CompatibilityVersion;
use buildkit_exporter_util_epoch::Timestamp;
use buildkit_solver_result::{BuildResult, Refs};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{MemoryStore, Remote, StoreProvider};
use buildkit_util_ocispec::{Descriptor, Platform, annotation};
use serde::Deserialize;

use crate::exporter::Options;
use crate::plan::{Layers, Plan};
use crate::writer::{Committed, settle};

#[derive(Deserialize)]
struct Recorded {
    layers: Vec<Layer>,
    /// Documents by digest.
    blobs: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Layer {
    media_type: String,
    digest: Digest,
    size: u64,
    diff_id: Digest,
    created: Timestamp,
    description: String,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    exporter: String,
    version: i64,
    attrs: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
    /// Layers by id of the tree; the id of a single tree is empty.
    refs: BTreeMap<String, usize>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    response: BTreeMap<String, String>,
    #[serde(default)]
    blobs: Vec<String>,
}

fn layers(recorded: &[Layer]) -> Layers {
    let descriptors = recorded.iter().map(|layer| {
        Descriptor::new(layer.media_type.clone(), layer.digest.clone(), layer.size)
            .with_annotation(annotation::UNCOMPRESSED, layer.diff_id.as_str())
            .with_annotation(annotation::CREATED_AT, layer.created.to_string())
            .with_annotation("containerd.io/distribution.source.docker.io", "library/x")
    });
    let infos = recorded
        .iter()
        .map(|layer| LayerInfo { created_at: layer.created.into(), description: layer.description.clone() });
    let provider = Arc::new(StoreProvider(Arc::new(MemoryStore::default())));
    Layers { infos: infos.collect(), remote: Some(Remote { descriptors: descriptors.collect(), provider }) }
}

/// What the exporter makes of a case, and the names of the image.
fn run(case: &Case, all: &[Layer]) -> Result<(Committed, String), String> {
    let text = |error: buildkit_exporter::Error| error.to_string();
    let options = Options::load(&case.attrs).map_err(text)?;
    let tree = |&count: &usize| (count > 0).then_some(count);
    let refs = match case.refs.get("") {
        Some(single) => Refs::Single(tree(single)),
        None => Refs::Many(case.refs.iter().map(|(id, count)| (id.clone(), tree(count))).collect()),
    };
    let metadata = case.metadata.iter().map(|(key, value)| (key.clone(), value.clone().into()));
    let result = BuildResult { refs, metadata: metadata.collect(), ..BuildResult::default() };
    let version = CompatibilityVersion::try_from(case.version).map_err(|error| error.to_string())?;
    let oci_types = (case.exporter == "oci").then_some(true);
    let (result, settled) =
        settle(version, &result, &options.rest, &options.commit, oci_types).map_err(text)?;
    let plan = Plan::new(&result, &settled, version, &case.exporter, &Platform::new("linux", "amd64"))
        .map_err(text)?;
    let layers = plan.parts.iter().map(|part| match part.tree {
        Some(&count) => layers(&all[..count]),
        None => Layers::default(),
    });
    let committed = plan.assemble(&settled, layers.collect()).map_err(text)?;
    let names = options.names(&result, committed.descriptor.digest.as_str());
    Ok((committed, names))
}

#[test]
fn images_are_those_of_upstream() {
    let recorded: Recorded = serde_json::from_str(include_str!("../tests/data/recorded.json")).unwrap();
    let mut compared = 0;
    for case in &recorded.cases {
        let name = &case.name;
        let made = run(case, &recorded.layers);
        if !case.error.is_empty() {
            assert_eq!(made.err().as_deref(), Some(case.error.as_str()), "{name}");
            continue;
        }
        let (committed, names) = made.unwrap_or_else(|error| panic!("{name}: {error}"));
        let images = committed.images.iter().flat_map(|image| [&image.manifest, &image.config]);
        for blob in images.chain(&committed.index) {
            let digest = blob.descriptor.digest.to_string();
            if !case.blobs.contains(&digest) && case.exporter != "image" {
                let made = String::from_utf8_lossy(&blob.bytes);
                let expect: Vec<_> = case.blobs.iter().map(|digest| &recorded.blobs[digest]).collect();
                panic!("{name}: {made}\nis none of {expect:#?}");
            }
            compared += 1;
        }
        let answer = committed.answer();
        // The others add a time to the descriptor, and normalize names.
        let is_image = case.exporter == "image";
        let keys = case.response.keys().filter(|key| is_image || key.ends_with("digest"));
        for key in keys.filter(|key| *key != "image.name") {
            assert_eq!(answer.get(key), case.response.get(key), "{name}: {key}");
        }
        if is_image {
            assert_eq!(case.response.get("image.name").map_or("", String::as_str), names, "{name}");
        }
    }
    assert!(compared > 40, "{compared}");
}
