//! Content stores of a build: layouts that it reads, what it exports as a layout, and local caches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_client_ociindex::{Name, StoreIndex};
use buildkit_session::SessionServer;
use buildkit_session_content::ContentService;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{ContentStore, LayoutStore};
use buildkit_util_gotext::{bool_error, parse_bool};
use buildkit_util_ocispec::media_type::{is_index, is_manifest};
use buildkit_util_ocispec::{Descriptor, Document, MAX_MANIFEST};

use crate::{BuildRequest, CacheOption, Error, ExportTarget, Result};

/// Name of the store that an image is exported into.
const EXPORT: &str = "export";
/// What an exporter says of the image that it made: a descriptor, as JSON in base64.
const IMAGE_DESCRIPTOR: &str = "containerimage.descriptor";
/// Its names, with commas.
const IMAGE_NAME: &str = "image.name";
/// What a cache exporter says of the cache that it made: a descriptor, as JSON.
const CACHE_MANIFEST: &str = "cache.manifest";
/// The option of exporters that names what they make.
const NAME_OPTION: &str = "name";
/// The tag of what has no other.
const LATEST: &str = "latest";

/// The content stores of a build.
#[derive(Default)]
pub(crate) struct Stores {
    by_name: BTreeMap<String, Arc<dyn ContentStore>>,
    /// What becomes a layout.
    exported: Option<Exported>,
    caches: Vec<Cache>,
}

/// A directory that becomes a layout.
struct Exported {
    path: PathBuf,
    /// Whether its image has names. One without is not meant by what exporters say of names: that is another's.
    is_named: bool,
}

/// A directory that cache goes to.
struct Cache {
    path: PathBuf,
    tag: String,
    /// Whether what does not belong to a cache of the directory is removed.
    is_reset: bool,
}

impl Stores {
    /// Prepares the stores that a build needs, and makes their directories. Local caches that cannot be read are taken
    /// out of the request. Blocks.
    pub(crate) fn prepare(request: &mut BuildRequest) -> Result<Self> {
        let mut stores = Self::default();
        for option in &request.cache_exports {
            match option.kind.as_str() {
                "local" => stores.export_cache(option)?,
                "registry" => require(option, "ref", "registry cache exporter requires ref").map(drop)?,
                _ => {}
            }
        }
        let mut imports = Vec::with_capacity(request.cache_imports.len());
        for mut option in request.cache_imports.drain(..) {
            if option.kind == "registry" {
                require(&option, "ref", "registry cache importer requires ref")?;
            }
            if option.kind != "local" || stores.import_cache(&mut option)? {
                imports.push(option);
            }
        }
        request.cache_imports = imports;
        for (name, store) in &request.oci_stores {
            stores.by_name.insert(format!("oci:{name}"), store.clone());
        }
        for export in &request.exports {
            if !matches!(export.kind.as_str(), "oci" | "docker") {
                continue;
            }
            let store = match &export.target {
                ExportTarget::Directory(path) => {
                    make_directory(path)?;
                    let is_named = export.attrs.get(NAME_OPTION).is_some_and(|name| !name.is_empty());
                    stores.exported = Some(Exported { path: path.clone(), is_named });
                    Arc::new(LayoutStore::new(path)) as _
                }
                ExportTarget::Store(store) => store.clone(),
                ExportTarget::None | ExportTarget::File(_) => continue,
            };
            if stores.by_name.insert(EXPORT.to_owned(), store).is_some() {
                return Err(Error::settings(format!("oci store key {EXPORT:?} already exists")));
            }
        }
        Ok(stores)
    }

    fn export_cache(&mut self, option: &CacheOption) -> Result<()> {
        let dest = require(option, "dest", "local cache exporter requires dest")?;
        let is_reset = option.attrs.get("reset").map_or(Ok(false), |text| {
            let failed = || Error::settings(format!("failed to parse reset attribute: {}", bool_error(text)));
            parse_bool(text).ok_or_else(failed)
        })?;
        let path = PathBuf::from(dest);
        make_directory(&path)?;
        let tag = option.attrs.get("tag").map_or(LATEST, String::as_str).to_owned();
        self.by_name.insert(format!("local:{dest}"), Arc::new(LayoutStore::new(&path)));
        self.caches.retain(|cache| cache.path != path);
        self.caches.push(Cache { path, tag, is_reset });
        Ok(())
    }

    /// Whether there is such a cache; its digest is added to the option.
    fn import_cache(&mut self, option: &mut CacheOption) -> Result<bool> {
        let src = require(option, "src", "local cache importer requires src")?.to_owned();
        let skipped = |reason: &dyn std::fmt::Display| {
            tracing::warn!("local cache import at {src} skipped: {reason}");
            Ok(false)
        };
        if option.attrs.get("digest").is_none_or(String::is_empty) {
            let tag = option.attrs.get("tag").map_or(LATEST, String::as_str);
            if tag.is_empty() {
                return Err(Error::settings(
                    "local cache importer requires either explicit digest, \"latest\" tag or custom tag on \
                     index.json",
                ));
            }
            match StoreIndex::new(&src).get(tag) {
                Ok(Some(found)) => option.attrs.insert("digest".to_owned(), found.digest.to_string()),
                Ok(None) => return skipped(&format!("no digest found for tag {tag}")),
                Err(error) => return skipped(&error),
            };
        }
        let store = LayoutStore::new(&src);
        let digest = option.attrs.get("digest").map_or("", String::as_str);
        match Digest::parse(digest) {
            Ok(digest) => {
                if let Err(error) = store.info(&digest) {
                    return skipped(&error);
                }
            }
            Err(error) => return skipped(&error),
        }
        self.by_name.entry(format!("local:{src}")).or_insert_with(|| Arc::new(store));
        Ok(true)
    }

    /// Adds the service to the session, if the build has stores.
    pub(crate) fn attach(&self, session: &mut SessionServer) {
        if !self.by_name.is_empty() {
            session.allow(ContentService::new(self.by_name.clone()).service(), ContentService::METHODS);
        }
    }

    /// Names what was exported in the indexes of its directories. Blocks.
    pub(crate) fn finish(self, exporter: &BTreeMap<String, String>) -> Result<()> {
        if let Some(cache) = exporter.get(CACHE_MANIFEST).filter(|json| !json.is_empty()) {
            let manifest = descriptor(CACHE_MANIFEST, cache.as_bytes())?;
            for Cache { path, tag, .. } in &self.caches {
                StoreIndex::new(path).put(&manifest, &[Name::Tag(tag.clone())])?;
            }
        }
        if let (Some(image), Some(Exported { path, is_named })) =
            (exporter.get(IMAGE_DESCRIPTOR), &self.exported)
            && !image.is_empty()
        {
            let json = STANDARD.decode(image).map_err(|error| Error::response(IMAGE_DESCRIPTOR, error))?;
            let names = match exporter.get(IMAGE_NAME).filter(|_| *is_named) {
                Some(names) => names.split(',').map(|name| Name::Image(name.to_owned())).collect(),
                None => vec![Name::Tag(LATEST.to_owned())],
            };
            StoreIndex::new(path).put(&descriptor(IMAGE_DESCRIPTOR, &json)?, &names)?;
        }
        for cache in self.caches.iter().filter(|cache| cache.is_reset) {
            if let Err(error) = reset(&cache.path) {
                tracing::warn!("failed to reset cache store: {error}");
            }
        }
        Ok(())
    }
}

fn require<'a>(option: &'a CacheOption, key: &str, message: &str) -> Result<&'a str> {
    let value = option.attrs.get(key).map_or("", String::as_str);
    if value.is_empty() { Err(Error::settings(message)) } else { Ok(value) }
}

fn make_directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .map_err(|error| Error::settings(format!("Failed to make directory `{}`: {error}", path.display())))
}

fn descriptor(key: &'static str, json: &[u8]) -> Result<Descriptor> {
    serde_json::from_slice(json).map_err(|error| Error::response(key, error))
}

/// Removes all blobs of a layout that no image of its index leads to. If one cannot be read, nothing is removed.
fn reset(path: &Path) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let store = LayoutStore::new(path);
    let mut waiting: VecDeque<Descriptor> = StoreIndex::new(path).read()?.manifests.into();
    let mut wanted = BTreeSet::new();
    while let Some(blob) = waiting.pop_front() {
        let is_document = is_manifest(&blob.media_type) || is_index(&blob.media_type);
        if !wanted.insert(blob.digest.clone()) || !is_document {
            continue;
        }
        let mut bytes = Vec::new();
        store.open(&blob.digest, Some(blob.size))?.take(MAX_MANIFEST + 1).read_to_end(&mut bytes)?;
        match Document::parse(blob.digest.as_str(), &blob.media_type, &bytes)? {
            Document::Manifest(manifest) => {
                waiting.push_back(manifest.config);
                waiting.extend(manifest.layers);
            }
            Document::Index(index) => waiting.extend(index.manifests),
        }
    }
    for blob in store.list()? {
        if !wanted.contains(&blob.digest)
            && let Err(error) = store.delete(&blob.digest)
        {
            tracing::warn!("reset: failed to delete blob {}: {error}", blob.digest);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use buildkit_util_contentutil::Expected;
    use buildkit_util_ocispec::media_type::{OCI_INDEX, OCI_LAYER};
    use buildkit_util_ocispec::{Index, to_json};

    use super::*;
    use crate::Export;

    fn add(store: &LayoutStore, media_type: &str, content: &[u8]) -> Descriptor {
        let mut ingester = store.ingest(Expected::default()).expect("ingest");
        ingester.write_all(content).expect("write");
        ingester.commit().expect("commit");
        Descriptor::of(media_type, content)
    }

    fn option(kind: &str, attrs: &[(&str, &str)]) -> CacheOption {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        CacheOption { kind: kind.to_owned(), attrs }
    }

    /// A cache of one layer, and its layer.
    fn cache(store: &LayoutStore, layer: &str) -> (Descriptor, Descriptor) {
        let layer = add(store, OCI_LAYER, layer.as_bytes());
        (add(store, OCI_INDEX, &to_json(&Index::new(vec![layer.clone()]))), layer)
    }

    #[test]
    fn caches_are_named_found_and_reset() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("cache");
        let dest = path.to_str().expect("text");
        let request = |exports: &[(&str, &str)]| BuildRequest {
            cache_exports: vec![option("local", exports)],
            ..BuildRequest::default()
        };
        let store = LayoutStore::new(&path);
        let told = |image: &Descriptor| {
            let json = String::from_utf8(to_json(image)).expect("text");
            BTreeMap::from([(CACHE_MANIFEST.to_owned(), json)])
        };
        let (first, old_layer) = cache(&store, "first");
        let stores = Stores::prepare(&mut request(&[("dest", dest)])).expect("prepares");
        assert_eq!(stores.by_name.keys().collect::<Vec<_>>(), [&format!("local:{dest}")]);
        stores.finish(&told(&first)).expect("names it");

        let import = |attrs: &[(&str, &str)]| {
            let mut all = vec![("src", dest)];
            all.extend(attrs);
            let mut request =
                BuildRequest { cache_imports: vec![option("local", &all)], ..BuildRequest::default() };
            Stores::prepare(&mut request).expect("prepares");
            request.cache_imports.first().map(|option| option.attrs["digest"].clone())
        };
        assert_eq!(import(&[]), Some(first.digest.to_string()));
        assert_eq!(import(&[("tag", "other")]), None);
        assert_eq!(import(&[("digest", "sha256:../../x")]), None);
        assert_eq!(import(&[("digest", Digest::sha256("other").as_str())]), None);
        assert_eq!(import(&[("src", "/nowhere/at/all")]), None);

        // The first cache is still another tag's; what no tag leads to goes.
        let (second, layer) = cache(&store, "second");
        let stray = add(&store, OCI_LAYER, b"stray");
        let mut next = request(&[("dest", dest), ("tag", "next"), ("reset", "true")]);
        Stores::prepare(&mut next).expect("prepares").finish(&told(&second)).expect("names it");
        assert!(store.info(&stray.digest).is_err());
        for kept in [&first, &old_layer, &second, &layer] {
            store.info(&kept.digest).expect("is kept");
        }
        let mut next = request(&[("dest", dest), ("reset", "1")]);
        Stores::prepare(&mut next).expect("prepares").finish(&told(&second)).expect("names it");
        assert!(store.info(&first.digest).is_err() && store.info(&old_layer.digest).is_err());
        // Nothing is removed if it is not sure what is wanted.
        store.delete(&second.digest).expect("deletes");
        let mut next = request(&[("dest", dest), ("reset", "1")]);
        Stores::prepare(&mut next).expect("prepares").finish(&BTreeMap::new()).expect("only warns");
        store.info(&layer.digest).expect("is kept");
    }

    #[test]
    fn layouts_have_the_names_that_they_were_given() {
        let dir = tempfile::tempdir().expect("temp dir");
        let image = Descriptor::of(OCI_INDEX, b"image");
        let answer = BTreeMap::from([
            (IMAGE_DESCRIPTOR.to_owned(), STANDARD.encode(to_json(&image))),
            // Of all exporters together.
            (IMAGE_NAME.to_owned(), "example.com/app:1".to_owned()),
        ]);
        for (place, (name, found, absent)) in [
            (None, LATEST, "example.com/app:1"),
            (Some(""), LATEST, "example.com/app:1"),
            (Some("example.com/app:1"), "example.com/app:1", LATEST),
            (Some("*"), "example.com/app:1", LATEST),
        ]
        .into_iter()
        .enumerate()
        {
            let path = dir.path().join(place.to_string());
            let mut export = Export::directory("oci", &path);
            export.attrs.extend(name.map(|name| (NAME_OPTION.to_owned(), name.to_owned())));
            let mut request = BuildRequest { exports: vec![export], ..BuildRequest::default() };
            Stores::prepare(&mut request).expect("prepares").finish(&answer).expect("names it");
            let index = StoreIndex::new(&path);
            assert_eq!(
                index.get(found).expect("reads").map(|found| found.digest),
                Some(image.digest.clone())
            );
            assert!(index.get(absent).expect("reads").is_none(), "{name:?}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let dir = tempfile::tempdir().expect("temp dir");
        let export = || Export::directory("oci", dir.path().join("out"));
        let with = |change: &dyn Fn(&mut BuildRequest)| {
            let mut request = BuildRequest::default();
            change(&mut request);
            Stores::prepare(&mut request).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(with(&|r| r.exports.push(export())), "");
        assert!(dir.path().join("out").is_dir());
        assert_eq!(
            with(&|r| r.exports.extend([export(), export()])),
            "oci store key \"export\" already exists"
        );
        for (kind, attrs, message) in [
            ("local", &[][..], "local cache exporter requires dest"),
            ("registry", &[], "registry cache exporter requires ref"),
            (
                "local",
                &[("dest", "/x"), ("reset", "maybe")],
                "failed to parse reset attribute: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(with(&|r| r.cache_exports.push(option(kind, attrs))), message);
        }
        for (kind, attrs, message) in [
            ("local", &[][..], "local cache importer requires src"),
            ("registry", &[], "registry cache importer requires ref"),
        ] {
            assert_eq!(with(&|r| r.cache_imports.push(option(kind, attrs))), message);
        }
        let message = with(&|r| r.cache_imports.push(option("local", &[("src", "/x"), ("tag", "")])));
        assert!(message.starts_with("local cache importer requires either explicit digest"), "{message}");
    }
}
