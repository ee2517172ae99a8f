use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{ContentStore, StoreProvider, read_all, store_bytes};
use buildkit_util_ocispec::{
    Descriptor, Document, DocumentError, Image, Index, MAX_MANIFEST, Manifest, Platform, PlatformMatcher,
    media_type,
};
use bytes::Bytes;

use crate::{DocumentSource, Error};

/// Entries of one index that are looked into, because they do not say what they run on.
const MAX_LOOKED_INTO: usize = 64;

/// Indexes that may lead to each other.
const MAX_DEPTH: usize = 4;

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// What its name stands for: an index or a manifest.
    pub root: Descriptor,
    /// The manifest of the platform.
    pub manifest: Descriptor,
    /// The configuration.
    pub config: Descriptor,
    /// Bytes of the configuration.
    pub config_bytes: Bytes,
    /// The layers, lowest first; none for what is no image of layers.
    pub layers: Vec<FoundLayer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLayer {
    /// Its blob.
    pub descriptor: Descriptor,
    /// Digest of the layer before it was compressed.
    pub diff_id: Digest,
}

/// Finds the image of a source that runs best on a platform. `known` is a root that needs not be asked for,
/// because the store has it from the same source.
///
/// # Errors
/// When the source fails, a document makes no sense, or nothing runs on the platform.
pub async fn find_image(
    source: &dyn DocumentSource,
    content: &Arc<dyn ContentStore>,
    platform: &Platform,
    known: Option<Descriptor>,
) -> Result<FoundImage, Error> {
    let documents = Documents { source, content };
    let (root, bytes) = match known {
        Some(root) => (root, None),
        None => source.resolve().await?,
    };
    let bytes = match bytes {
        Some(bytes) => {
            store_bytes(content, bytes.clone()).await?;
            bytes
        }
        None => documents.read(&root).await?,
    };
    let (manifest_descriptor, manifest) = documents.manifest(&root, bytes, platform).await?;
    let config_bytes = documents.read(&manifest.config).await?;
    let layers = layers(&manifest_descriptor, &manifest, &config_bytes)?;
    Ok(FoundImage { root, manifest: manifest_descriptor, config: manifest.config, config_bytes, layers })
}

struct Documents<'a> {
    source: &'a dyn DocumentSource,
    content: &'a Arc<dyn ContentStore>,
}

impl Documents<'_> {
    /// A document that belongs to the image, from the store or from the source.
    async fn read(&self, document: &Descriptor) -> Result<Bytes, Error> {
        if document.size > MAX_MANIFEST {
            let what = format!("document {}", document.digest);
            return Err(DocumentError::TooLarge { what, size: document.size }.into());
        }
        if let Ok(bytes) = read_all(&StoreProvider(self.content.clone()), document).await {
            return Ok(bytes);
        }
        let bytes = self.source.document(document).await?;
        store_bytes(self.content, bytes.clone()).await?;
        Ok(bytes)
    }

    /// The manifest of a platform, below a manifest or an index.
    async fn manifest(
        &self,
        root: &Descriptor,
        bytes: Bytes,
        platform: &Platform,
    ) -> Result<(Descriptor, Manifest), Error> {
        let matcher = PlatformMatcher::new(platform);
        let (mut at, mut bytes) = (root.clone(), bytes);
        for _ in 0..MAX_DEPTH {
            let what = format!("manifest {}", at.digest);
            match Document::parse(&what, &at.media_type, &bytes)? {
                Document::Manifest(manifest) => return Ok((at, *manifest)),
                Document::Index(index) => {
                    at = self.choose(&at, &index, platform, &matcher).await?;
                    bytes = self.read(&at).await?;
                }
            }
        }
        Err(Error::TooDeep(root.digest.clone()))
    }

    /// The entry of an index that runs best. One that does not say what it runs on is looked into.
    async fn choose(
        &self,
        descriptor: &Descriptor,
        index: &Index,
        wanted: &Platform,
        matcher: &PlatformMatcher,
    ) -> Result<Descriptor, Error> {
        let mut best: Option<(usize, &Descriptor)> = None;
        let (mut found, mut failed, mut looked_into) = (Vec::new(), None, 0);
        for entry in &index.manifests {
            let platform = match &entry.platform {
                Some(platform) => platform.clone(),
                None if looked_into == MAX_LOOKED_INTO => continue,
                None => {
                    looked_into += 1;
                    match self.platform_of(entry).await {
                        Ok(Some(platform)) => platform,
                        Ok(None) => continue,
                        Err(error) => {
                            failed.get_or_insert(error);
                            continue;
                        }
                    }
                }
            };
            if !platform.is_unknown() {
                found.push(platform.to_string());
            }
            if let Some(rank) = matcher.rank(&platform)
                && best.is_none_or(|(other, _)| rank < other)
            {
                best = Some((rank, entry));
            }
        }
        match (best, failed) {
            (Some((_, entry)), _) => Ok(entry.clone()),
            // It may be the one that is looked for.
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::NoPlatform {
                digest: descriptor.digest.clone(),
                wanted: wanted.normalized().to_string(),
                found: if found.is_empty() { "none".to_owned() } else { found.join(", ") },
            }),
        }
    }

    /// What an entry runs on; `None` if it is no image that says so.
    async fn platform_of(&self, entry: &Descriptor) -> Result<Option<Platform>, Error> {
        if !media_type::is_manifest(&entry.media_type) {
            return Ok(None);
        }
        let bytes = self.read(entry).await?;
        let Ok(Document::Manifest(manifest)) = Document::parse("manifest", &entry.media_type, &bytes) else {
            return Ok(None);
        };
        let config = self.read(&manifest.config).await?;
        Ok(serde_json::from_slice::<Image>(&config).ok().map(|image| image.platform))
    }
}

fn layers(descriptor: &Descriptor, manifest: &Manifest, config: &[u8]) -> Result<Vec<FoundLayer>, Error> {
    let image: Image = serde_json::from_slice(config).map_err(|error| DocumentError::Invalid {
        what: format!("configuration {}", manifest.config.digest),
        reason: error.to_string(),
    })?;
    let diff_ids = image.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(Error::Layers {
            digest: descriptor.digest.clone(),
            layers: manifest.layers.len(),
            diff_ids: diff_ids.len(),
        });
    }
    let layers = manifest.layers.iter().cloned().zip(diff_ids);
    Ok(layers.map(|(descriptor, diff_id)| FoundLayer { descriptor, diff_id }).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use buildkit_util_contentutil::MemoryStore;
    use buildkit_util_ocispec::to_json;

    use super::*;

    /// Documents by digest, the last one is the root.
    #[derive(Default)]
    struct Fake {
        documents: HashMap<Digest, Bytes>,
        root: Option<Descriptor>,
        asked: AtomicUsize,
    }

    impl Fake {
        fn add(&mut self, media_type: &str, json: Vec<u8>) -> Descriptor {
            let descriptor = Descriptor::of(media_type, &json);
            self.documents.insert(descriptor.digest.clone(), json.into());
            self.root = Some(descriptor.clone());
            descriptor
        }

        fn image(&mut self, platform: &Platform, layers: usize, diff_ids: usize) -> Descriptor {
            let image = Image {
                platform: platform.clone(),
                rootfs: buildkit_util_ocispec::RootFs {
                    diff_ids: (0..diff_ids).map(|number| Digest::sha256(number.to_string())).collect(),
                    ..Default::default()
                },
                ..Image::default()
            };
            let config = self.add(media_type::OCI_CONFIG, to_json(&image));
            let layer = Descriptor::of(media_type::OCI_LAYER, b"layer");
            let manifest = Manifest::new(config, vec![layer; layers]);
            self.add(media_type::OCI_MANIFEST, to_json(&manifest))
        }

        fn index(&mut self, manifests: Vec<Descriptor>) -> Descriptor {
            let index = Index::new(manifests);
            self.add(media_type::OCI_INDEX, to_json(&index))
        }

        async fn find(&self, platform: &str) -> Result<FoundImage, Error> {
            let content: Arc<dyn ContentStore> = Arc::new(MemoryStore::default());
            find_image(self, &content, &platform.parse().unwrap(), None).await
        }
    }

    #[async_trait]
    impl DocumentSource for Fake {
        async fn resolve(&self) -> Result<(Descriptor, Option<Bytes>), Error> {
            Ok((self.root.clone().unwrap(), None))
        }

        async fn document(&self, document: &Descriptor) -> Result<Bytes, Error> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let found = self.documents.get(&document.digest).cloned();
            found.ok_or_else(|| buildkit_util_contentutil::Error::NotFound(document.digest.clone()).into())
        }
    }

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn the_manifest_of_the_platform_is_found() {
        let mut fake = Fake::default();
        let mut entries = Vec::new();
        for text in ["linux/arm64", "linux/arm/v6", "linux/arm/v7", "linux/amd64"] {
            let platform = platform(text);
            entries.push(Descriptor { platform: Some(platform.clone()), ..fake.image(&platform, 1, 1) });
        }
        // One that does not say what it is for, in an index of its own.
        let riscv = fake.image(&platform("linux/riscv64"), 2, 2);
        entries.push(Descriptor { platform: Some(Platform::new("unknown", "unknown")), ..riscv.clone() });
        entries.push(riscv.clone());
        let root = fake.index(entries.clone());
        for (wanted, number) in [
            ("linux/arm/v7", 2),
            ("linux/arm/v6", 1),
            ("amd64", 3),
            ("linux/amd64/v3", 3),
            ("linux/riscv64", 5),
        ] {
            let found = fake.find(wanted).await.unwrap();
            assert_eq!((&found.root, &found.manifest.digest), (&root, &entries[number].digest), "{wanted}");
        }
        assert_eq!(fake.find("linux/riscv64").await.unwrap().layers.len(), 2);
        let error = fake.find("linux/s390x").await.unwrap_err().to_string();
        assert!(error.contains("linux/s390x is wanted, it has linux/arm64, linux/arm/v6"), "{error}");
        assert!(!error.contains("unknown"), "{error}");
    }

    #[tokio::test]
    async fn entries_without_platforms_are_looked_into_within_bounds() {
        let mut fake = Fake::default();
        let entries: Vec<_> =
            (0..1000).map(|number| fake.image(&platform("linux/arm64"), number, number)).collect();
        fake.index(entries);
        assert!(matches!(fake.find("linux/amd64").await, Err(Error::NoPlatform { .. })));
        let asked = fake.asked.into_inner();
        assert!(asked <= 1 + 2 * MAX_LOOKED_INTO, "{asked}");
    }

    #[tokio::test]
    async fn an_entry_that_cannot_be_read_is_no_other_platform() {
        let mut fake = Fake::default();
        let gone = fake.image(&platform("linux/amd64"), 1, 1);
        let other = fake.image(&platform("linux/arm64"), 2, 2);
        fake.index(vec![gone.clone(), other.clone()]);
        fake.documents.remove(&gone.digest);
        assert!(matches!(fake.find("linux/amd64").await, Err(Error::Content(_))));
        assert_eq!(fake.find("linux/arm64").await.expect("the other one").manifest, other);
    }

    #[tokio::test]
    async fn one_image_alone_is_taken_as_it_is() {
        let mut fake = Fake::default();
        let root = fake.image(&platform("linux/arm64"), 1, 1);
        assert_eq!(fake.find("linux/amd64").await.unwrap().manifest, root);
        fake.image(&platform("linux/arm64"), 1, 2);
        assert!(matches!(fake.find("linux/amd64").await, Err(Error::Layers { layers: 1, diff_ids: 2, .. })));
    }

    #[tokio::test]
    async fn a2_13_large_documents_are_not_read() {
        let mut fake = Fake::default();
        fake.image(&platform("linux/amd64"), 0, 0);
        fake.root.as_mut().unwrap().size = 4 << 30;
        assert!(matches!(fake.find("linux/amd64").await, Err(Error::Document(_))));
        let mut at = fake.image(&platform("linux/amd64"), 0, 0);
        for _ in 0..=MAX_DEPTH {
            at = fake.index(vec![Descriptor { platform: Some(platform("linux/amd64")), ..at }]);
        }
        assert!(matches!(fake.find("linux/amd64").await, Err(Error::TooDeep(_))));
    }
}
