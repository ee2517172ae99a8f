//! What an export is made of, platform by platform, and how it is put together.

use buildkit_cache::LayerInfo;
use buildkit_exporter::{CompatibilityVersion, Error};
use buildkit_exporter_containerimage_exptypes::{ResultPlatform, key, of_platform, parse_platforms};
use buildkit_exporter_util_epoch as epoch;
use buildkit_solver_result::{BuildResult, Refs};
use buildkit_util_compression::Compression;
use buildkit_util_contentutil::Remote;
use buildkit_util_ocispec::{Descriptor, Image, Platform};
use bytes::Bytes;

use crate::CommitOptions;
use crate::blobs::ImageBlobs;
use crate::compose::{ImageInput, Style, compose_image, compose_index, default_config};
use crate::writer::Committed;

/// The images that a result becomes.
pub(crate) struct Plan<'a, R> {
    pub(crate) parts: Vec<Part<'a, R>>,
    /// Whether there is an index.
    is_map: bool,
    /// What no time is later than, if that is so for all platforms.
    epoch: Option<i64>,
}

/// What a result is for one platform.
pub(crate) struct Part<'a, R> {
    platform: ResultPlatform,
    pub(crate) tree: Option<&'a R>,
    config: Bytes,
    base_config: Option<&'a Bytes>,
    inline_cache: Option<&'a Bytes>,
    pub(crate) epoch: Option<i64>,
}

/// Layers of one tree. Scratch has none.
#[derive(Default)]
pub(crate) struct Layers {
    pub(crate) remote: Option<Remote>,
    pub(crate) infos: Vec<LayerInfo>,
}

pub(crate) fn invalid(message: impl ToString) -> Error {
    Error::Invalid(message.to_string())
}

impl<'a, R> Plan<'a, R> {
    /// Finds out what a result is, and whether it can be delivered as the options say. `exporter` names who
    /// wants it.
    pub(crate) fn new(
        result: &'a BuildResult<R>,
        options: &CommitOptions,
        version: CompatibilityVersion,
        exporter: &str,
        default_platform: &Platform,
    ) -> Result<Self, Error> {
        let is_map = matches!(&result.refs, Refs::Many(refs) if !refs.is_empty());
        if is_map && !result.metadata.contains_key(key::PLATFORMS) {
            return Err(invalid("unable to export multiple refs, missing platforms mapping"));
        }
        let kind = options.compression.kind;
        if version == CompatibilityVersion::V10 && kind == Compression::Zstd {
            let feature = format!("{exporter} exporter compression={kind}");
            return Err(Error::Incompatible { version, feature });
        }
        let platforms = parse_platforms(&result.metadata, default_platform).map_err(invalid)?;
        if !is_map && platforms.len() > 1 {
            return Err(invalid("cannot export multiple platforms without multi-platform enabled"));
        }
        check_annotations(result, options, is_map)?;
        let parts = platforms.into_iter().map(|platform| part(result, options, platform, default_platform));
        let epoch = match options.epoch {
            Some(epoch) => epoch,
            None => epoch::from_metadata(&result.metadata, None).map_err(invalid)?,
        };
        Ok(Self { parts: parts.collect::<Result<_, _>>()?, is_map, epoch })
    }

    /// Composes all documents. `layers` are those of the parts.
    pub(crate) fn assemble(&self, options: &CommitOptions, layers: Vec<Layers>) -> Result<Committed, Error> {
        let style = Style { oci: options.is_oci(), prefer_nondist: options.prefer_nondist };
        let mut blobs = ImageBlobs::default();
        let mut images = Vec::with_capacity(self.parts.len());
        for (part, Layers { remote, infos }) in self.parts.iter().zip(layers) {
            let platform = &part.platform.platform;
            let input = ImageInput {
                config: &part.config,
                base_config: part.base_config.map(AsRef::as_ref),
                inline_cache: part.inline_cache.map(AsRef::as_ref),
                layers: remote.as_ref().map(|remote| remote.descriptors.clone()).unwrap_or_default(),
                infos,
                epoch: part.epoch,
                annotations: options.annotations.of(self.is_map.then_some(platform)),
            };
            let mut image = compose_image(input, style).map_err(invalid)?;
            image.manifest.descriptor.platform = Some(platform.clone());
            blobs.add_layers(remote);
            blobs.add_document(&image.manifest);
            blobs.add_document(&image.config);
            images.push(image);
        }
        let index = self.is_map.then(|| {
            let manifests: Vec<_> = images.iter().map(|image| image.manifest.descriptor.clone()).collect();
            compose_index(&manifests, options.annotations.of(None), style)
        });
        let (descriptor, config_digest) = match (&index, images.first()) {
            (Some(index), _) => {
                blobs.add_document(index);
                (index.descriptor.clone(), None)
            }
            (None, Some(image)) => {
                (image.manifest.descriptor.clone(), Some(image.config.descriptor.digest.clone()))
            }
            (None, None) => return Err(invalid("invalid empty platforms index for exporter")),
        };
        Ok(Committed {
            descriptor,
            config_digest,
            index,
            images,
            epoch: self.epoch,
            blobs: blobs.into(),
            pins: Vec::new(),
        })
    }
}

fn part<'a, R>(
    result: &'a BuildResult<R>,
    options: &CommitOptions,
    platform: ResultPlatform,
    default_platform: &Platform,
) -> Result<Part<'a, R>, Error> {
    let id = platform.id.as_str();
    let tree = result.find(id).ok_or_else(|| invalid(format!("failed to find ref for ID {id}")))?;
    let value = |key| of_platform(&result.metadata, key, Some(id)).filter(|value| !value.is_empty());
    Ok(Part {
        tree,
        config: match value(key::CONFIG) {
            Some(config) => config.clone(),
            None => default_config(default_platform).into(),
        },
        base_config: value(key::BASE_CONFIG),
        inline_cache: value(key::INLINE_CACHE),
        epoch: match options.epoch {
            Some(epoch) => epoch,
            None => epoch::from_metadata(&result.metadata, Some(id)).map_err(invalid)?,
        },
        platform,
    })
}

fn check_annotations<R>(result: &BuildResult<R>, options: &CommitOptions, is_map: bool) -> Result<(), Error> {
    for id in options.annotations.platforms() {
        if result.find(id).is_none() {
            return Err(invalid(format!("invalid annotation: no platform {id} found in source")));
        }
    }
    if !options.is_oci() && options.annotations.need_oci() {
        return Err(invalid("cannot export annotations with \"oci-mediatypes=false\""));
    }
    let for_all = options.annotations.of(None);
    let has_index = !for_all.index.is_empty() || !for_all.index_descriptor.is_empty();
    if has_index && !is_map {
        return Err(invalid("index annotations not supported for single platform export"));
    }
    Ok(())
}

/// How many layers at the bottom are those of the base image, which stay as they are.
pub(crate) fn layers_of_base<R>(part: &Part<'_, R>, layers: &[Descriptor]) -> Result<usize, Error> {
    let Some(config) = part.base_config else { return Ok(0) };
    let base: Image = serde_json::from_slice(config)
        .map_err(|error| invalid(format!("failed to unmarshal base image config: {error}")))?;
    let pairs = layers.iter().zip(&base.rootfs.diff_ids);
    Ok(pairs.take_while(|(layer, base)| layer.diff_id().as_ref() == Some(*base)).count())
}
