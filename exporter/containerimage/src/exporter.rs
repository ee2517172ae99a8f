use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::{CacheManager, LayerOptions};
use buildkit_errdefs::Kind;
use buildkit_exporter::{Error, ExportContext, ExportResult, Exported, Exporter, ExporterInstance, Finalize};
use buildkit_exporter_containerimage_exptypes::{key, option};
use buildkit_solver_result::BuildResult;
use buildkit_util_ocispec::Platform;
use buildkit_util_resolver::Registries;

use crate::push::{Push, Target};
use crate::{CommitOptions, ImageWriter, parse_flag};

/// What the exporter works with.
#[derive(Clone)]
pub struct ImageExporterOptions {
    /// Has the trees.
    pub cache: CacheManager,
    /// Platform of images that name none.
    pub default_platform: Platform,
    /// Where images are pushed to.
    pub registries: Registries,
}

/// The exporter `image`: makes an image and pushes it, if that is asked for.
pub struct ImageExporter {
    writer: ImageWriter,
    registries: Registries,
}

impl ImageExporter {
    /// The exporter.
    pub fn new(options: ImageExporterOptions) -> Self {
        let writer = ImageWriter::new(options.cache, options.default_platform);
        Self { writer, registries: options.registries }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) commit: CommitOptions,
    push: bool,
    push_by_digest: bool,
    insecure: bool,
    dangling_prefix: String,
    dangling_empty_only: bool,
    /// What nobody knows is metadata.
    pub(crate) rest: BTreeMap<String, String>,
}

impl Options {
    pub(crate) fn load(attrs: &BTreeMap<String, String>) -> Result<Self, Error> {
        let (mut commit, rest) = CommitOptions::load(attrs)?;
        if !attrs.contains_key(option::INLINE_ATTESTATIONS) {
            commit.inline_attestations = true;
        }
        let mut options = Self { commit, ..Self::default() };
        for (key, value) in rest {
            match key.as_str() {
                option::PUSH => options.push = parse_flag(&key, &value)?,
                option::PUSH_BY_DIGEST => options.push_by_digest = parse_flag(&key, &value)?,
                option::INSECURE => options.insecure = parse_flag(&key, &value)?,
                option::DANGLING_PREFIX => options.dangling_prefix = value,
                option::DANGLING_EMPTY_ONLY => options.dangling_empty_only = parse_flag(&key, &value)?,
                // They are about an image store, which workers here do not have.
                option::UNPACK | option::STORE | option::STORE_ALLOW_INCOMPLETE | option::NAME_CANONICAL => {
                    parse_flag(&key, &value)?;
                }
                _ => {
                    options.rest.insert(key, value);
                }
            }
        }
        Ok(options)
    }

    /// The names of an image with this digest, with commas.
    pub(crate) fn names<R>(&self, result: &BuildResult<R>, digest: &str) -> String {
        let mut names = self.commit.name_for(result);
        if !self.dangling_prefix.is_empty() && (!self.dangling_empty_only || names.is_empty()) {
            if !names.is_empty() {
                names.push(',');
            }
            names.push_str(&format!("{}@{digest}", self.dangling_prefix));
        }
        names
    }
}

impl Exporter for ImageExporter {
    fn name(&self) -> &'static str {
        "image"
    }

    fn resolve(
        &self,
        _: usize,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn ExporterInstance>, Error> {
        let (writer, registries) = (self.writer.clone(), self.registries.clone());
        Ok(Arc::new(Instance { writer, registries, options: Options::load(attrs)? }))
    }
}

struct Instance {
    writer: ImageWriter,
    registries: Registries,
    options: Options,
}

#[async_trait]
impl ExporterInstance for Instance {
    fn description(&self) -> String {
        "exporting to image".to_owned()
    }

    fn layers(&self) -> Option<LayerOptions> {
        // Times are rewritten in layers that are there.
        Some(LayerOptions { compression: self.options.commit.compression, rewrite: None })
    }

    async fn export(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error> {
        tokio::select! {
            exported = self.deliver(cx, result) => exported,
            () = cx.cancelled.cancelled() => Err(Error::Other {
                action: "failed to export".to_owned(),
                kind: Kind::Cancelled,
                source: "context canceled".into(),
            }),
        }
    }
}

impl Instance {
    async fn deliver(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error> {
        let (result, options) =
            self.writer.prepare(cx, result, &self.options.rest, &self.options.commit, None)?;
        if self.options.push {
            // What cannot be pushed need not be made.
            Target::parse(&options.name_for(&result), self.options.push_by_digest)?;
        }
        let committed = self.writer.commit(cx, &result, &options, "image").await?;
        let mut response = committed.answer();
        let names = self.options.names(&result, committed.descriptor.digest.as_str());
        if !names.is_empty() {
            response.insert(key::NAME.to_owned(), names.clone());
        }
        let image = Some(committed.exported());
        let mut finalize: Option<Box<dyn Finalize>> = None;
        if self.options.push && !names.is_empty() {
            finalize = Some(Box::new(Push {
                registries: self.registries.clone(),
                targets: Target::parse(&names, self.options.push_by_digest)?,
                image: committed,
                insecure: self.options.insecure,
            }));
        }
        Ok(Exported { response, image, finalize })
    }
}
