//! What belongs to an image, in the order in which it is pushed.

use std::collections::HashSet;

use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{Provider, read_all};
use buildkit_util_ocispec::{Descriptor, Document, media_type};
use bytes::Bytes;

use crate::Error;

/// Indexes within indexes.
const MAX_DEPTH: usize = 8;
/// Manifests and indexes of one image.
const MAX_MANIFESTS: usize = 2_000;
/// Their bytes, which are kept until they are pushed.
const MAX_BYTES: usize = 64 << 20;
/// Blobs of one image.
const MAX_BLOBS: usize = 20_000;

/// A manifest or index to be pushed.
pub(crate) struct Part {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
}

/// What to push, each once.
#[derive(Default)]
pub(crate) struct Plan {
    /// Configurations and layers, in no order that matters.
    pub(crate) blobs: Vec<Descriptor>,
    /// In no order that matters either, after the blobs.
    pub(crate) manifests: Vec<Part>,
    /// After the manifests, each after those that it names; the root, whatever it is, last.
    pub(crate) last: Vec<Part>,
}

impl Plan {
    /// Reads the manifests of an image.
    pub(crate) async fn of(root: &Descriptor, provider: &dyn Provider) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut seen: HashSet<Digest> = HashSet::new();
        let mut bytes = 0;
        // A descriptor whose children were found comes up once more, to be pushed after them.
        let mut open: Vec<(Descriptor, usize, Option<Bytes>)> = vec![(root.clone(), 0, None)];
        while let Some((descriptor, depth, read)) = open.pop() {
            let is_root = descriptor.digest == root.digest;
            if let Some(bytes) = read {
                let is_last = is_root || media_type::is_index(&descriptor.media_type);
                let parts = if is_last { &mut plan.last } else { &mut plan.manifests };
                parts.push(Part { descriptor, bytes });
                continue;
            }
            // Registries do not take what they must not give away.
            if media_type::is_foreign_layer(&descriptor.media_type) || !seen.insert(descriptor.digest.clone())
            {
                continue;
            }
            let too_many = |what, limit| Error::TooMany { what, limit };
            let is_document = media_type::is_manifest(&descriptor.media_type)
                || media_type::is_index(&descriptor.media_type);
            if !is_document && !is_root {
                if plan.blobs.len() == MAX_BLOBS {
                    return Err(too_many("blobs", MAX_BLOBS));
                }
                plan.blobs.push(descriptor);
                continue;
            }
            if depth > MAX_DEPTH {
                return Err(too_many("levels of indexes", MAX_DEPTH));
            }
            let read = read_all(provider, &descriptor).await?;
            bytes += read.len();
            if seen.len() - plan.blobs.len() > MAX_MANIFESTS {
                return Err(too_many("manifests", MAX_MANIFESTS));
            }
            if bytes > MAX_BYTES {
                return Err(too_many("bytes of manifests", MAX_BYTES));
            }
            let what = format!("manifest {}", descriptor.digest);
            let document = Document::parse(&what, &descriptor.media_type, &read)?;
            open.push((descriptor, depth, Some(read)));
            let children = match document {
                Document::Manifest(manifest) => {
                    let mut children = manifest.layers;
                    children.push(manifest.config);
                    children
                }
                Document::Index(index) => index.manifests,
            };
            open.extend(children.into_iter().rev().map(|child| (child, depth + 1, None)));
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use buildkit_util_contentutil::{ContentStore, Expected, MemoryStore, StoreProvider};
    use buildkit_util_ocispec::{Index, Manifest, to_json};

    use super::*;

    fn add(store: &MemoryStore, media_type: &str, bytes: &[u8]) -> Descriptor {
        let mut ingester = store.ingest(Expected::default()).unwrap();
        ingester.write_all(bytes).unwrap();
        ingester.commit().unwrap();
        Descriptor::of(media_type, bytes)
    }

    fn manifest(store: &MemoryStore, layers: Vec<Descriptor>) -> Descriptor {
        let config = add(store, media_type::OCI_CONFIG, format!("{{\"n\":{}}}", layers.len()).as_bytes());
        let manifest = Manifest::new(config, layers);
        add(store, media_type::OCI_MANIFEST, &to_json(&manifest))
    }

    fn index(store: &MemoryStore, manifests: Vec<Descriptor>) -> Descriptor {
        let index = Index::new(manifests);
        add(store, media_type::OCI_INDEX, &to_json(&index))
    }

    #[tokio::test]
    async fn each_once_and_the_root_last() {
        let store = MemoryStore::default();
        let layer = add(&store, media_type::OCI_LAYER, b"layer");
        let foreign = Descriptor::of(media_type::OCI_NONDIST_LAYER_GZIP, b"elsewhere");
        let one = manifest(&store, vec![layer.clone(), layer.clone()]);
        let two = manifest(&store, vec![layer.clone(), foreign]);
        let inner = index(&store, vec![one.clone(), two.clone()]);
        // Records of a cache are indexes of layers.
        let root = index(&store, vec![inner.clone(), one.clone(), layer.clone()]);
        let plan = Plan::of(&root, &StoreProvider(Arc::new(store.clone()))).await.unwrap();
        // Both have two layers, so the configuration is the same.
        assert_eq!(plan.blobs.len(), 2);
        assert!(plan.blobs.contains(&layer));
        let digests =
            |parts: &[Part]| parts.iter().map(|part| part.descriptor.digest.clone()).collect::<Vec<_>>();
        assert_eq!(digests(&plan.manifests), [one.digest.clone(), two.digest]);
        assert_eq!(digests(&plan.last), [inner.digest, root.digest]);
        let plan = Plan::of(&one, &StoreProvider(Arc::new(store))).await.unwrap();
        assert_eq!((plan.manifests.len(), digests(&plan.last)), (0, vec![one.digest]));
    }

    #[tokio::test]
    async fn hostile_images_end() {
        let store = MemoryStore::default();
        let mut root = manifest(&store, Vec::new());
        for _ in 0..20 {
            root = index(&store, vec![root]);
        }
        let provider = StoreProvider(Arc::new(store.clone()));
        let error = Plan::of(&root, &provider).await.err().unwrap();
        assert!(matches!(error, Error::TooMany { what: "levels of indexes", .. }), "{error}");
        // A layer is nothing that can be pushed alone.
        let layer = add(&store, media_type::OCI_LAYER, b"layer");
        let error = Plan::of(&layer, &provider).await.err().unwrap();
        assert!(matches!(error, Error::Document(_)), "{error}");
        let absent = Descriptor::of(media_type::OCI_MANIFEST, b"absent");
        let error = Plan::of(&absent, &provider).await.err().unwrap();
        assert!(matches!(error, Error::Read(_)), "{error}");
    }
}
