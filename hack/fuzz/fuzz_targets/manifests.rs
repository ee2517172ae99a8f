//! Manifests and indexes under each of their types.
#![no_main]

use buildkit_util_ocispec::{Document, Image, media_type, to_json};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let types = [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_LIST,
    ];
    let read = types.map(|media_type| Document::parse("it", media_type, bytes).ok());
    let is_index = |read: &&Document| matches!(read, Document::Index(_));
    let found = read.iter().flatten();
    // Nothing is both.
    let indexes = found.clone().filter(is_index).count();
    assert!(indexes == 0 || indexes == found.count());
    for document in read.iter().flatten() {
        let written = match document {
            Document::Manifest(manifest) => to_json(manifest),
            Document::Index(index) => to_json(index),
        };
        assert!(serde_json::from_slice::<serde_json::Value>(&written).is_ok());
    }
    let _ = (Document::detect(bytes), serde_json::from_slice::<Image>(bytes));
});
