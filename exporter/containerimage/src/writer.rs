use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_cache::{CacheManager, ImmutableRef, LayerOptions, Pin, RewriteTimes};
use buildkit_errdefs::Classify;
use buildkit_exporter::{CompatibilityVersion, Error, ExportContext, ExportResult, ExportedImage};
use buildkit_exporter_containerimage_exptypes::key;
use buildkit_exporter_util_epoch::Timestamp;
use buildkit_solver_result::BuildResult;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{Provider, store_bytes};
use buildkit_util_ocispec::{Descriptor, Platform, to_json};
use bytes::Bytes;
use futures::future::try_join_all;

use crate::blobs::ImageBlobs;
use crate::compose::{Blob, ComposedImage};
use crate::plan::{Layers, Part, Plan, invalid, layers_of_base};
use crate::{AnnotationGroup, CommitOptions};

/// Makes images of results, for exporters.
#[derive(Clone)]
pub struct ImageWriter {
    cache: CacheManager,
    default_platform: Platform,
}

/// An image, or several, as it is delivered.
pub struct Committed {
    /// Names the index, or else the manifest, with the annotations and platform that were asked for.
    pub descriptor: Descriptor,
    /// Digest of the configuration, if there is no index.
    pub config_digest: Option<Digest>,
    /// The index, if there is one.
    pub index: Option<Blob>,
    /// The images, in the order of the index.
    pub images: Vec<ComposedImage>,
    /// What no time is later than, in seconds since 1970, if that is so for all platforms.
    pub epoch: Option<i64>,
    pub(crate) blobs: Arc<ImageBlobs>,
    /// Keep the stored documents, which no record names.
    pub(crate) pins: Vec<Pin>,
}

impl Committed {
    /// Gives the bytes of all blobs.
    pub fn provider(&self) -> Arc<dyn Provider> {
        self.blobs.clone()
    }

    /// What the client is told about the image.
    pub fn answer(&self) -> BTreeMap<String, String> {
        let mut answer = BTreeMap::from([
            (key::DIGEST.to_owned(), self.descriptor.digest.to_string()),
            (key::DESCRIPTOR.to_owned(), STANDARD.encode(to_json(&self.descriptor))),
        ]);
        if let Some(digest) = &self.config_digest {
            answer.insert(key::CONFIG_DIGEST.to_owned(), digest.to_string());
        }
        answer
    }

    /// What is told of the image besides the answer.
    pub fn exported(&self) -> ExportedImage {
        let images = self.images.iter().flat_map(|image| [&image.config, &image.manifest]);
        let documents = images.chain(&self.index).map(|document| document.bytes.clone());
        ExportedImage { descriptor: self.descriptor.clone(), documents: documents.collect() }
    }

    /// What is known of a layer besides what its manifest says of it, such as where it came from.
    pub fn layer(&self, digest: &Digest) -> Option<&Descriptor> {
        self.blobs.layer(digest)
    }

    /// All blobs, each once, what is named before what names it: layers, configurations, manifests, index.
    pub fn all(&self) -> Vec<&Descriptor> {
        let layers = self.images.iter().flat_map(|image| &image.layers);
        let configs = self.images.iter().map(|image| &image.config.descriptor);
        let manifests = self.images.iter().map(|image| &image.manifest.descriptor);
        let index = self.index.iter().map(|index| &index.descriptor);
        let mut seen = HashSet::new();
        layers.chain(configs).chain(manifests).chain(index).filter(|blob| seen.insert(&blob.digest)).collect()
    }
}

fn failed<E: Classify + Send + Sync + 'static>(action: &str, source: E) -> Error {
    Error::Other { action: action.to_owned(), kind: source.kind(), source: source.into() }
}

impl ImageWriter {
    /// A writer of images of trees in `cache`. `default_platform` is that of images that name none.
    pub fn new(cache: CacheManager, default_platform: Platform) -> Self {
        Self { cache, default_platform }
    }

    /// The result and options as they hold for one export: options that nobody knew are metadata, metadata
    /// may have annotations, and what the user left open is decided. `oci_types` is what the exporter wants
    /// whatever the version of the build.
    ///
    /// # Errors
    /// When they make no sense together.
    pub fn prepare(
        &self,
        cx: &ExportContext,
        result: &ExportResult,
        rest: &BTreeMap<String, String>,
        options: &CommitOptions,
        oci_types: Option<bool>,
    ) -> Result<(ExportResult, CommitOptions), Error> {
        settle(cx.compatibility, result, rest, options, oci_types)
    }

    /// Has layers made, composes the documents and stores them. `exporter` names who wants it.
    ///
    /// # Errors
    /// When the result or the options make no sense, or a layer cannot be made.
    pub async fn commit(
        &self,
        cx: &ExportContext,
        result: &ExportResult,
        options: &CommitOptions,
        exporter: &str,
    ) -> Result<Committed, Error> {
        let plan = Plan::new(result, options, cx.compatibility, exporter, &self.default_platform)?;
        let layers = export_layers(cx, options, &plan.parts).await?;
        let mut committed = plan.assemble(options, layers)?;
        let mut pins = Vec::new();
        for image in &committed.images {
            pins.push(self.keep(cx, "exporting manifest", &image.manifest).await?);
            pins.push(self.keep(cx, "exporting config", &image.config).await?);
        }
        if let Some(index) = &committed.index {
            pins.push(self.keep(cx, "exporting manifest list", index).await?);
        }
        committed.pins = pins;
        Ok(committed)
    }

    /// Stores a document, for as long as what is returned lives: no record names it.
    async fn keep(&self, cx: &ExportContext, what: &str, blob: &Blob) -> Result<Pin, Error> {
        let digest = &blob.descriptor.digest;
        let pin = self.cache.pin(digest);
        let part = cx.progress.start(&format!("{what} {digest}"));
        store_bytes(self.cache.content(), blob.bytes.clone())
            .await
            .map_err(|error| failed(&format!("error writing blob {digest}"), error))?;
        part.done(0, 0);
        Ok(pin)
    }
}

pub(crate) fn settle<R: Clone>(
    version: CompatibilityVersion,
    result: &BuildResult<R>,
    rest: &BTreeMap<String, String>,
    options: &CommitOptions,
    oci_types: Option<bool>,
) -> Result<(BuildResult<R>, CommitOptions), Error> {
    let mut result = result.clone();
    let added = rest.iter().map(|(key, value)| (key.clone(), Bytes::from(value.clone())));
    result.metadata.extend(added);
    let mut options = options.clone();
    options.annotations.merge(AnnotationGroup::parse(&result.metadata).map_err(invalid)?);
    let options = options.settle(version, oci_types)?;
    Ok((result, options))
}

/// The layers of all trees, made side by side.
async fn export_layers(
    cx: &ExportContext,
    options: &CommitOptions,
    parts: &[Part<'_, ImmutableRef>],
) -> Result<Vec<Layers>, Error> {
    let progress = cx.progress.start("exporting layers");
    let layers = try_join_all(parts.iter().map(async |part| match part.tree {
        Some(tree) => layers_of(tree, options, None).await,
        None => Ok(Layers::default()),
    }))
    .await?;
    progress.done(0, 0);
    if !options.rewrite_timestamp {
        return Ok(layers);
    }
    try_join_all(parts.iter().zip(layers).map(async |(part, layers)| {
        let (Some(tree), Some(remote)) = (part.tree, &layers.remote) else { return Ok(layers) };
        let Some(epoch) = part.epoch else {
            tracing::warn!("rewrite-timestamp is specified, but no source-date-epoch was found");
            return Ok(layers);
        };
        let latest = Timestamp::from_seconds(epoch).map_err(invalid)?;
        let time = latest.to_string().replace('T', " ").replace('Z', " +0000 UTC");
        let progress =
            cx.progress.start(&format!("rewriting layers with source-date-epoch {epoch} ({time})"));
        let keep = layers_of_base(part, &remote.descriptors)?;
        let rewritten = layers_of(tree, options, Some(RewriteTimes { latest: latest.into(), keep })).await?;
        progress.done(0, 0);
        Ok(rewritten)
    }))
    .await
}

async fn layers_of(
    tree: &ImmutableRef,
    options: &CommitOptions,
    rewrite: Option<RewriteTimes>,
) -> Result<Layers, Error> {
    let wanted = LayerOptions { compression: options.compression, rewrite };
    let failed = |error| failed("failed to export layers", error);
    let remote = tree.layers(&wanted).await.map_err(failed)?;
    Ok(Layers { remote: Some(remote), infos: tree.layer_infos().map_err(failed)? })
}
