//! Caches are read from documents that are made here.

use std::collections::HashMap;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_cache_remotecache::{DESCRIPTION, read_cache};
use buildkit_cache_remotecache_v1::types::CACHE_CONFIG;
use buildkit_cache_remotecache_v1::{MAX_CONFIG, Record, RecordResult, Records};
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::{
    Descriptor, History, Image, Index, Manifest, RootFs, annotation, media_type, to_json,
};
use buildkit_util_pull::{DocumentSource, Error};
use bytes::Bytes;

/// Documents by digest; the last one is the root.
#[derive(Default)]
struct Fake {
    documents: HashMap<Digest, Bytes>,
    root: Option<Descriptor>,
}

#[async_trait]
impl DocumentSource for Fake {
    async fn resolve(&self) -> Result<(Descriptor, Option<Bytes>), Error> {
        Ok((self.root.clone().expect("a root"), None))
    }

    async fn document(&self, document: &Descriptor) -> Result<Bytes, Error> {
        Ok(self.documents.get(&document.digest).cloned().expect("a document"))
    }
}

impl Fake {
    fn add(&mut self, media_type: &str, json: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &json);
        self.documents.insert(descriptor.digest.clone(), json.into());
        self.root = Some(descriptor.clone());
        descriptor
    }

    fn manifest(&mut self, config: Descriptor, layers: Vec<Descriptor>) -> Descriptor {
        let manifest = Manifest::new(config, layers);
        self.add(media_type::OCI_MANIFEST, to_json(&manifest))
    }

    fn index(&mut self, manifests: Vec<Descriptor>) -> Descriptor {
        let index = Index::new(manifests);
        self.add(media_type::OCI_INDEX, to_json(&index))
    }

    /// An image with one layer of files and a step without.
    fn image(&mut self, name: &str, records: Option<&[u8]>) -> Descriptor {
        let step = |empty_layer| History {
            created: Some("2000-01-01T00:00:00Z".to_owned()),
            created_by: format!("RUN {empty_layer}"),
            empty_layer,
            ..History::default()
        };
        let image = Image {
            rootfs: RootFs { diff_ids: vec![Digest::sha256(name)], ..RootFs::default() },
            history: vec![step(true), step(false)],
            ..Image::default()
        };
        let mut config: serde_json::Value = serde_json::from_slice(&to_json(&image)).expect("JSON");
        if let Some(records) = records {
            config["moby.buildkit.cache.v0"] = STANDARD.encode(records).into();
        }
        let config = self.add(media_type::OCI_CONFIG, to_json(&config));
        self.manifest(config, vec![layer(name)])
    }
}

fn layer(name: &str) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER_GZIP, name.as_bytes())
}

fn records(name: &str) -> Records {
    let created_at = "2000-01-01T00:00:00Z".parse().expect("a time");
    let results = vec![RecordResult { layers: vec![0], created_at }];
    let record = Record { digest: Digest::sha256(name), inputs: Vec::new(), results };
    Records { layers: vec![layer(name)], records: vec![record] }
}

#[tokio::test]
async fn images_of_all_platforms_are_looked_into() {
    let mut fake = Fake::default();
    let inline = |name: &str| records(name).to_inline(&[layer(name)]).expect("a result");
    let one = fake.image("a", Some(&inline("a")));
    let found = read_cache(&fake).await.expect("a cache");
    let annotated = layer("a")
        .with_annotation(annotation::UNCOMPRESSED, Digest::sha256("a").as_str())
        .with_annotation(annotation::CREATED_AT, "2000-01-01T00:00:00Z")
        .with_annotation(DESCRIPTION, "RUN false");
    assert_eq!(found, [Records { layers: vec![annotated], ..records("a") }]);
    let others = vec![one.clone(), fake.image("b", Some(&inline("b"))), fake.image("c", None)];
    let nested = fake.index(others);
    fake.index(vec![one, nested]);
    let found = read_cache(&fake).await.expect("a cache");
    assert_eq!(found.len(), 2, "each once");
    fake.image("c", None);
    assert!(read_cache(&fake).await.expect("an image").is_empty());
}

#[tokio::test]
async fn manifests_of_caches_are_read() {
    let mut fake = Fake::default();
    let config = fake.add(CACHE_CONFIG, to_json(&records("a").to_config()));
    fake.manifest(config.clone(), vec![layer("a")]);
    assert_eq!(read_cache(&fake).await.expect("a cache"), [records("a")]);
    fake.index(vec![layer("a"), config]);
    assert_eq!(read_cache(&fake).await.expect("a cache"), [records("a")]);
}

#[tokio::test]
async fn hostile_caches_are_refused() {
    let mut fake = Fake::default();
    fake.image("a", Some(b"{"));
    read_cache(&fake).await.expect_err("no records");
    let config = fake.add(CACHE_CONFIG, vec![b' '; MAX_CONFIG + 1]);
    fake.manifest(config, vec![layer("a")]);
    let error = read_cache(&fake).await.expect_err("too large").to_string();
    assert!(error.contains("more than the 1048576 that are allowed"), "{error}");
    // More images than anybody has, and an index that the same one leads to again and again.
    let many = (0..200).map(|number| fake.image(&number.to_string(), None)).collect();
    fake.index(many);
    let error = read_cache(&fake).await.expect_err("too many").to_string();
    assert!(error.contains("more than 64 manifests"), "{error}");
    let mut at = fake.image("a", None);
    for _ in 0..1000 {
        at = fake.index(vec![at.clone(), at]);
    }
    read_cache(&fake).await.expect_err("too deep");
}
