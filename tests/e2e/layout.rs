//! OCI layouts that builds wrote.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A directory in the form of an OCI layout.
pub struct Layout(PathBuf);

impl Layout {
    pub fn open(dir: &Path) -> Self {
        assert!(dir.join("oci-layout").exists(), "no layout in {}", dir.display());
        Self(dir.to_owned())
    }

    /// The descriptors of `index.json`.
    pub fn roots(&self) -> Vec<Value> {
        let bytes = fs_err::read(self.0.join("index.json")).expect("index of a layout");
        let index: Value = serde_json::from_slice(&bytes).expect("an index");
        index["manifests"].as_array().expect("manifests of an index").clone()
    }

    /// The one root.
    pub fn root(&self) -> Value {
        let roots = self.roots();
        assert_eq!(roots.len(), 1, "{roots:?}");
        roots[0].clone()
    }

    /// The document that a descriptor is of.
    pub fn document(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().expect("digest of a descriptor");
        let bytes = fs_err::read(self.0.join("blobs").join(digest.replace(':', "/"))).expect("a blob");
        assert_eq!(descriptor["size"], bytes.len(), "size of {digest}");
        serde_json::from_slice(&bytes).expect("a document")
    }

    /// The manifest of the only image.
    pub fn manifest(&self) -> Value {
        self.document(&self.root())
    }

    /// The configuration of the only image.
    pub fn config(&self) -> Value {
        self.document(&self.manifest()["config"])
    }

    /// The digests of the uncompressed layers of the only image, bottom first.
    pub fn diff_ids(&self) -> Vec<String> {
        strings(&self.config()["rootfs"]["diff_ids"])
    }

    /// What an annotation says of each layer of the only image, bottom first.
    pub fn layer_annotations(&self, key: &str) -> Vec<Option<String>> {
        let manifest = self.manifest();
        let layers = manifest["layers"].as_array().expect("layers");
        layers.iter().map(|layer| layer["annotations"][key].as_str().map(str::to_owned)).collect()
    }
}

/// The texts of a list; none if there is no list.
pub fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().expect("a text").to_owned()).collect()
}
