//! Pushes to a real registry.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use buildkit_session::{SessionGroup, SessionManager};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{
    ContentStore, Error as ContentError, Expected, MemoryStore, Provider, StoreProvider, read_all,
};
use buildkit_util_ocispec::{Descriptor, annotation};
use buildkit_util_progress::{Event, Writer};
use buildkit_util_push::{Error, PushOptions, push};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries, RegistryOptions};
use buildkit_util_testutil::{Image, Layer, Registry};

/// A store with an image, and the image's descriptor.
fn stored(image: &Image) -> (MemoryStore, Descriptor) {
    let store = MemoryStore::default();
    let mut open = vec![image.digest().to_owned()];
    while let Some(digest) = open.pop() {
        let bytes = image.blob(&digest);
        let mut ingester = store.ingest(Expected::default()).expect("ingest");
        ingester.write_all(bytes).expect("write");
        ingester.commit().expect("commit");
        let Ok(document) = serde_json::from_slice::<serde_json::Value>(bytes) else { continue };
        let lists = ["manifests", "layers"].into_iter().filter_map(|list| document[list].as_array());
        let parts = lists.flatten().chain(document.get("config"));
        open.extend(parts.filter_map(|part| part["digest"].as_str()).map(str::to_owned));
    }
    let root = image.blob(image.digest());
    let digest = Digest::parse(image.digest()).expect("a digest");
    (store, Descriptor::new(image.media_type(), digest, root.len() as u64))
}

fn image(text: &str) -> Image {
    let of = |platform: &str| {
        let own = Layer::new().file("own", 0o644, format!("{platform} {text}"));
        let shared = Layer::new().file("shared", 0o644, text.repeat(100_000));
        Image::new(platform, &[shared, own], serde_json::json!({}))
    };
    Image::index(&[of("linux/amd64"), of("linux/arm64")])
}

fn registries() -> Registries {
    Registries::new(RegistryOptions::new(SessionManager::new(), "test"))
}

fn repository(registries: &Registries, name: &str, access: Access) -> buildkit_util_resolver::Repository {
    let name = Reference::parse(name).expect("a name");
    registries.repository(&name, &SessionGroup::default(), access, false)
}

/// Names of parts that were started, and of those that ended.
type Seen = Arc<Mutex<(Vec<String>, Vec<String>)>>;

fn recorded() -> (Writer, Seen) {
    let seen = Seen::default();
    let sink = seen.clone();
    let writer = Writer::new(
        Digest::sha256("vertex"),
        Arc::new(move |event| {
            if let Event::Status(status) = event {
                let mut seen = sink.lock().expect("not poisoned");
                if status.completed.is_some() {
                    seen.1.push(status.id);
                } else if !seen.0.contains(&status.id) {
                    seen.0.push(status.id);
                }
            }
        }),
    );
    (writer, seen)
}

#[tokio::test]
async fn images_are_pushed_and_pulled() {
    let registry = Registry::start();
    let image = image("one");
    let (store, root) = stored(&image);
    let provider: Arc<dyn Provider> = Arc::new(StoreProvider(Arc::new(store)));
    let registries = registries();
    let name = format!("{}/team/one:v1", registry.host());
    let to = repository(&registries, &name, Access::Push);
    let (writer, seen) = recorded();
    push(&to, &root, provider.clone(), &PushOptions::default(), &writer).await.expect("pushed");
    {
        let seen = seen.lock().expect("not poisoned");
        assert_eq!(seen.0[0], "pushing layers");
        assert!(seen.0.contains(&format!("pushing manifest for {name}@{}", root.digest)), "{:?}", seen.0);
        let mut both = seen.clone();
        both.0.sort();
        both.1.sort();
        assert_eq!(both.0, both.1);
        // Two layers of their own, one that both have, and two configurations.
        assert_eq!(seen.0.iter().filter(|id| id.starts_with("pushing sha256:")).count(), 5);
    }

    let from = repository(&registries, &name, Access::Pull);
    let resolved = from.resolve().await.expect("there");
    assert_eq!(resolved.descriptor, root);
    let bytes = from.manifest(&root).await.expect("there");
    assert_eq!(bytes, image.blob(image.digest()));
    for manifest in image.manifests() {
        let manifest: Descriptor = serde_json::from_value(manifest).expect("a descriptor");
        assert!(from.exists(&manifest).await.expect("asked"));
        let bytes = read_all(&*from.provider(), &manifest).await.expect("there");
        let document: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        for layer in document["layers"].as_array().expect("layers") {
            let layer: Descriptor = serde_json::from_value(layer.clone()).expect("a descriptor");
            let bytes = read_all(&*from.provider(), &layer).await.expect("there");
            assert_eq!(bytes, image.blob(layer.digest.as_str()));
        }
    }

    // Again: nothing is sent.
    let (writer, seen) = recorded();
    push(&to, &root, provider.clone(), &PushOptions::default(), &writer).await.expect("pushed");
    assert_eq!(seen.lock().expect("not poisoned").0.len(), 2);

    // By digest only a name without a tag.
    let by_digest = PushOptions { by_digest: true, ..PushOptions::default() };
    let error = push(&to, &root, provider.clone(), &by_digest, &writer).await.expect_err("tagged");
    assert_eq!(error.to_string(), format!("can't push tagged ref {name} by digest"));
    let plain = format!("{}/team/two", registry.host());
    let to = repository(&registries, &plain, Access::Push);
    push(&to, &root, provider, &by_digest, &Writer::discard()).await.expect("pushed");
    assert!(to.exists(&root).await.expect("asked"));
    assert!(to.resolve().await.is_err());
}

/// Gives manifests and configurations, no layers.
struct NoLayers(StoreProvider);

#[async_trait::async_trait]
impl Provider for NoLayers {
    async fn read(
        &self,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<buildkit_util_contentutil::BlobStream, ContentError> {
        if blob.media_type.contains("layer") {
            return Err(ContentError::NotFound(blob.digest.clone()));
        }
        self.0.read(blob, offset).await
    }
}

#[tokio::test]
async fn layers_are_mounted() {
    let registry = Registry::start();
    let image = image("mounted");
    registry.push(&image, "team/from", "v1");
    let (store, root) = stored(&image);
    let no_layers: Arc<dyn Provider> = Arc::new(NoLayers(StoreProvider(Arc::new(store))));
    let registries = registries();
    let to = repository(&registries, &format!("{}/team/to:v1", registry.host()), Access::Push);
    // Without knowing where they are, they would have to be read.
    let none = PushOptions::default();
    let error =
        push(&to, &root, no_layers.clone(), &none, &Writer::discard()).await.expect_err("nobody has them");
    assert!(matches!(error, Error::Registry(_)), "{error}");
    assert!(to.resolve().await.is_err(), "a part of an image has no name");

    let bare = registry.host().split(':').next().expect("a host").to_owned();
    let source = BTreeMap::from([(
        format!("{}{bare}", annotation::DISTRIBUTION_SOURCE),
        "other/x,team/from".to_owned(),
    )]);
    let mut annotations = BTreeMap::new();
    for manifest in image.manifests() {
        let document = image.document(manifest["digest"].as_str().expect("a digest"));
        for layer in document["layers"].as_array().expect("layers") {
            let digest = Digest::parse(layer["digest"].as_str().expect("text")).expect("a digest");
            annotations.insert(digest, source.clone());
        }
    }
    let options = PushOptions { annotations, ..PushOptions::default() };
    push(&to, &root, no_layers, &options, &Writer::discard()).await.expect("mounted");
    assert_eq!(to.resolve().await.expect("there").descriptor, root);
}

#[test]
fn pushes_are_sent_between_threads() {
    fn is_send<T: Send>(_: impl FnOnce(&'static (Registries, Descriptor)) -> T) {}
    is_send(|(registries, root): &'static (Registries, Descriptor)| {
        let to = repository(registries, "a/b", Access::Push);
        let provider: Arc<dyn Provider> = Arc::new(StoreProvider(Arc::new(MemoryStore::default())));
        async move { push(&to, root, provider, &PushOptions::default(), &Writer::discard()).await }
    });
}
