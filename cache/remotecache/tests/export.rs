//! Holds the documents of caches against those of the Go daemon, whose recordings the crate of records has.

use buildkit_cache_remotecache::{CacheDocuments, CacheFormat};
use buildkit_cache_remotecache_v1::Records;
use buildkit_util_ocispec::{Descriptor, Document, media_type};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    config: String,
    cache_layers: Vec<Descriptor>,
}

fn records(json: &str) -> Records {
    let Recorded { config, cache_layers } = serde_json::from_str(json).expect("a recording");
    Records::parse(config.as_bytes(), cache_layers).expect("records")
}

const PLAIN: &str = include_str!("../v1/tests/data/plain.json");
const LINKED: &str = include_str!("../v1/tests/data/linked.json");

#[test]
fn documents_are_those_of_upstream() {
    for (json, config, manifest) in [
        (
            PLAIN,
            "sha256:11c6c143c2015d90646239698b450eaa1bfe073bfd11fb90bf68b39e61f5bbcc",
            "sha256:41ffca27a6fc4353cf469f447fc5c014094999026e317e6550fd0ceb8bc65fbc",
        ),
        (
            LINKED,
            "sha256:40b8fb2df6080fed216fef9e48d79b8a7bcd7a79fc84b483773d2b887eea9131",
            "sha256:124936b9e68418adb59c86340169eef4302b5195390917285294c0f72e39f8ae",
        ),
    ] {
        let mut records = records(json);
        // What is known of a layer besides goes nowhere.
        for layer in &mut records.layers {
            layer.annotations.insert("buildkit/description".to_owned(), "RUN x".to_owned());
        }
        let format = CacheFormat { image_manifest: true, oci: true };
        let documents = CacheDocuments::new(&records, format).expect("results");
        assert_eq!(documents.config.0.digest.as_str(), config);
        assert_eq!(documents.manifest.0.digest.as_str(), manifest);
    }
}

#[test]
fn old_forms_are_indexes() {
    let records = records(PLAIN);
    for (oci, index, layer) in [
        (true, media_type::OCI_INDEX, media_type::OCI_LAYER_GZIP),
        (false, media_type::DOCKER_LIST, media_type::DOCKER_LAYER_GZIP),
    ] {
        let format = CacheFormat { image_manifest: false, oci };
        let documents = CacheDocuments::new(&records, format).expect("results");
        let (descriptor, bytes) = documents.manifest;
        assert_eq!(descriptor.media_type, index);
        let Ok(Document::Index(read)) = Document::parse("index", index, &bytes) else { panic!("an index") };
        assert_eq!(read.manifests.len(), 7);
        assert_eq!(read.manifests[0].media_type, layer);
        assert_eq!(read.manifests[6], documents.config.0, "the records come last");
    }
    let empty = Records { records: records.records.clone(), layers: Vec::new() };
    assert_eq!(CacheDocuments::new(&empty, CacheFormat { image_manifest: true, oci: true }), None);
}
