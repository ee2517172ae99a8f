//! Images without a registry to pull them from: made here, written as an OCI layout or pushed.

mod layer;

use std::collections::BTreeMap;
use std::path::Path;

use buildkit_util_cachedigest::Digest;
use serde_json::{Value, json};

use crate::busybox_rootfs;

pub use layer::Layer;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Blobs of an image and which of them is its root: a manifest, or an index of several platforms.
///
/// ```
/// use buildkit_util_testutil::{Image, Layer};
///
/// let base = Layer::new().file("base", 0o644, "for all");
/// let of = |platform: &str| {
///     let own = Layer::new().file("platform", 0o644, platform);
///     Image::new(platform, &[base.clone(), own], serde_json::json!({ "Env": ["PATH=/bin"] }))
/// };
/// let image = Image::index(&[of("linux/amd64"), of("linux/arm/v7")]);
/// assert!(image.is_index());
/// ```
#[derive(Clone, Debug)]
pub struct Image {
    blobs: BTreeMap<String, Vec<u8>>,
    /// Descriptor of the root.
    root: Value,
}

impl Image {
    /// An image of one platform (`os/architecture[/variant]`). `config` is what containers get, in the words
    /// of the specification: `Env`, `Cmd`, `Entrypoint`, `WorkingDir`, `User`, `Labels`.
    ///
    /// # Panics
    /// When `platform` is none.
    pub fn new(platform: &str, layers: &[Layer], config: Value) -> Self {
        let mut image = Self { blobs: BTreeMap::new(), root: Value::Null };
        let layer = |layer: &Layer, image: &mut Self| {
            let suffix = if layer.is_compressed() { "+gzip" } else { "" };
            image.add(&format!("{LAYER}{suffix}"), layer.blob())
        };
        let descriptors: Vec<Value> = layers.iter().map(|one| layer(one, &mut image)).collect();
        let platform = parse_platform(platform);
        let mut document = platform.clone();
        document["created"] = json!("1970-01-01T00:00:00Z");
        document["config"] = config;
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id().to_string()).collect();
        document["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        document["history"] = layers.iter().map(|_| json!({ "created_by": "test" })).collect();
        let config = image.add(CONFIG, bytes(&document));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors,
        });
        image.root = image.add(MANIFEST, bytes(&manifest));
        image.root["platform"] = platform;
        image
    }

    /// One image for several platforms, in this order.
    pub fn index(images: &[Self]) -> Self {
        let mut index = Self { blobs: BTreeMap::new(), root: Value::Null };
        for image in images {
            index.blobs.extend(image.blobs.clone());
        }
        let manifests: Vec<&Value> = images.iter().map(|image| &image.root).collect();
        let document = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        index.root = index.add(INDEX, bytes(&document));
        index
    }

    /// The machine's static busybox as a root file system of one layer, for this machine's platform.
    ///
    /// # Panics
    /// When there is no static busybox.
    pub fn busybox() -> Self {
        let dir = tempfile::tempdir().expect("directory of a root file system");
        busybox_rootfs(dir.path());
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self::new(
            &format!("linux/{architecture}"),
            &[Layer::from_dir(dir.path())],
            json!({ "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"] }),
        )
    }

    /// The digest of the root, by which the image can be named.
    pub fn digest(&self) -> &str {
        self.root["digest"].as_str().unwrap_or_default()
    }

    /// The media type of the root.
    pub fn media_type(&self) -> &str {
        self.root["mediaType"].as_str().unwrap_or_default()
    }

    /// Whether the root is an index.
    pub fn is_index(&self) -> bool {
        self.media_type() == INDEX
    }

    /// A blob by its digest.
    ///
    /// # Panics
    /// When the image has none of that digest.
    pub fn blob(&self, digest: &str) -> &[u8] {
        self.blobs.get(digest).unwrap_or_else(|| panic!("the image has no blob {digest}"))
    }

    /// A manifest, index or configuration by its digest.
    ///
    /// # Panics
    /// When the image has none of that digest.
    pub fn document(&self, digest: &str) -> Value {
        serde_json::from_slice(self.blob(digest)).expect("the blob is JSON")
    }

    /// Descriptors of the manifests, one for each platform.
    pub fn manifests(&self) -> Vec<Value> {
        if !self.is_index() {
            return vec![self.root.clone()];
        }
        self.document(self.digest())["manifests"].as_array().cloned().unwrap_or_default()
    }

    /// Writes the image as an OCI layout into `dir`, where `tag` names it.
    ///
    /// # Panics
    /// When that fails.
    pub fn write_layout(&self, dir: &Path, tag: &str) {
        let mut root = self.root.clone();
        root["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [root] });
        let write = || -> std::io::Result<()> {
            fs_err::create_dir_all(dir.join("blobs/sha256"))?;
            for (digest, blob) in &self.blobs {
                fs_err::write(dir.join("blobs").join(digest.replacen(':', "/", 1)), blob)?;
            }
            fs_err::write(dir.join("index.json"), bytes(&index))?;
            fs_err::write(dir.join("oci-layout"), bytes(&json!({ "imageLayoutVersion": "1.0.0" })))
        };
        write().expect("an OCI layout is written");
    }

    /// Blobs that a registry takes as such: configurations and layers.
    pub(crate) fn plain_blobs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let manifests: Vec<String> = self.manifests().iter().map(digest_of).collect();
        let is_plain =
            move |digest: &str| digest != self.digest() && !manifests.iter().any(|one| one == digest);
        self.blobs
            .iter()
            .map(|(digest, blob)| (digest.as_str(), blob.as_slice()))
            .filter(move |(digest, _)| is_plain(digest))
    }

    /// Adds a blob and returns its descriptor.
    fn add(&mut self, media_type: &str, blob: Vec<u8>) -> Value {
        let digest = Digest::sha256(&blob).to_string();
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": blob.len() });
        self.blobs.insert(digest, blob);
        descriptor
    }
}

/// The digest in a descriptor.
pub(crate) fn digest_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap_or_default().to_owned()
}

fn bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("it has text keys only")
}

fn parse_platform(text: &str) -> Value {
    let mut parts = text.split('/');
    let (Some(os), Some(architecture)) = (parts.next(), parts.next()) else {
        panic!("`{text}` is no platform");
    };
    let mut platform = json!({ "os": os, "architecture": architecture });
    if let Some(variant) = parts.next() {
        platform["variant"] = json!(variant);
    }
    platform
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn layers_are_what_was_put_in() {
        let layer = Layer::new()
            .dir("etc", 0o755)
            .file(&format!("{}end", "etc/long/".repeat(30)), 0o600, "data")
            .symlink("motd", "etc/motd")
            .hardlink("again", "motd")
            .whiteout("etc/gone")
            .opaque("var");
        let plain = layer.clone().uncompressed().blob();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&layer.blob()[..]).read_to_end(&mut unpacked).expect("it is gzip");
        assert_eq!(unpacked, plain);
        assert_eq!(Digest::sha256(&plain), layer.diff_id());
        let mut archive = tar::Archive::new(&plain[..]);
        let names: Vec<String> = archive
            .entries()
            .expect("it is tar")
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(names.len(), 6);
        assert_eq!(names[4..], ["etc/.wh.gone", "var/.wh..wh..opq"]);
    }

    #[test]
    fn a_layout_holds_everything_by_digest() {
        let layer = Layer::new().file("f", 0o644, "x");
        let of =
            |platform: &str| Image::new(platform, std::slice::from_ref(&layer), json!({ "Env": [platform] }));
        let image = Image::index(&[of("linux/amd64"), of("linux/arm/v7")]);
        let dir = tempfile::tempdir().expect("a directory");
        image.write_layout(dir.path(), "latest");
        let read = |digest: &str| {
            let path = dir.path().join("blobs").join(digest.replacen(':', "/", 1));
            let blob = fs_err::read(path).expect("a blob");
            assert_eq!(Digest::sha256(&blob).to_string(), digest);
            blob
        };
        let parse = |blob: &[u8]| serde_json::from_slice::<Value>(blob).expect("it is JSON");
        let layout = parse(&fs_err::read(dir.path().join("index.json")).expect("an index"));
        assert_eq!(digest_of(&layout["manifests"][0]), image.digest());
        let index = parse(&read(image.digest()));
        assert_eq!(index["manifests"][1]["platform"]["variant"], "v7");
        for descriptor in index["manifests"].as_array().expect("manifests") {
            let blob = read(&digest_of(descriptor));
            assert_eq!(descriptor["size"], blob.len());
            let manifest = parse(&blob);
            let config = parse(&read(&digest_of(&manifest["config"])));
            assert_eq!(config["rootfs"]["diff_ids"][0], layer.diff_id().to_string());
            assert_eq!(read(&digest_of(&manifest["layers"][0])), layer.blob());
        }
        // The layer is shared.
        assert_eq!(fs_err::read_dir(dir.path().join("blobs/sha256")).expect("blobs").count(), 6);
    }
}
