//! The layers of a record as blobs.

use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache_metadata::Batch;
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_archive::{self as archive, WriteOptions};
use buildkit_util_cachedigest::Digest;
use buildkit_util_compression::{Compression, Config};
use buildkit_util_contentutil::{BlobInfo, ContentStore, Expected, Ingester, Remote};
use buildkit_util_converter::{self as converter, Conversion, Layer, LayerWriter, estargz_payload};
use buildkit_util_flightcontrol::Group;
use buildkit_util_ocispec::annotation::{REWRITTEN_TIMESTAMP, UNCOMPRESSED};
use buildkit_util_ocispec::{Descriptor, media_type};
use buildkit_util_overlay::Stack;
use futures::StreamExt as _;
use futures::stream;
use serde::{Deserialize, Serialize};

use crate::blobs::CacheProvider;
use crate::manager::{Inner, shared};
use crate::record::LayerUnit;
use crate::{CacheManager, CreateOptions, Error, ImmutableRef, RefId, store};

/// Layers that are made at the same time: compression uses all processors by itself.
const MAKERS: usize = 2;

/// Bytes that are written or read at a time.
const BUFFER: usize = 256 << 10;

/// Annotation that the table of contents of an estargz layer is found by.
const ESTARGZ_TOC: &str = "containerd.io/snapshot/stargz/toc.digest";

/// A layer as a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBlob {
    /// The blob.
    pub descriptor: Descriptor,
    /// Digest of the layer before it was compressed.
    pub diff_id: Digest,
}

/// What the layers of a tree are wanted like.
#[derive(Clone, Debug, Default)]
pub struct LayerOptions {
    /// How they are compressed. Those that exist otherwise are converted if that is forced.
    pub compression: Config,
    /// Brings times of files down.
    pub rewrite: Option<RewriteTimes>,
}

/// Times of files in layers are brought down to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewriteTimes {
    /// What no time is later than.
    pub latest: SystemTime,
    /// Layers at the bottom that stay as they are: those of the base image.
    pub keep: usize,
}

/// What is known of one layer besides its blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// When it was made.
    pub created_at: SystemTime,
    /// What made it, for people.
    pub description: String,
}

/// Layers that are being made, by record and form.
pub(crate) type Makes = Group<(RefId, String), Result<LayerBlob, Arc<Error>>>;

impl ImmutableRef {
    /// The layers of the tree, lowest first, made if need be: each once, however many ask. Descriptors have
    /// OCI's media types, or those of the image that a layer comes from, an annotation that says what
    /// the layer was before it was compressed, and one that says to what time its files were brought down, if
    /// they were. Layers of base images are not fetched: the provider does that
    /// when they are read.
    ///
    /// # Errors
    /// When a layer cannot be made.
    pub async fn layers(&self, options: &LayerOptions) -> Result<Remote, Error> {
        let inner = &self.handle.inner;
        let units = inner.graph.lock().layer_units(self.id())?;
        let (compression, rewrite) = (options.compression, options.rewrite);
        let made = units.into_iter().enumerate().map(|(number, unit)| {
            let rewrite = rewrite.filter(|rewrite| number >= rewrite.keep);
            let form = LayerForm { compression, latest: rewrite.map(|rewrite| rewrite.latest) };
            inner.clone().layer(unit, form)
        });
        let made: Vec<Result<LayerBlob, Error>> = stream::iter(made).buffered(MAKERS).collect().await;
        let mut descriptors = Vec::with_capacity(made.len());
        for (number, blob) in made.into_iter().enumerate() {
            let LayerBlob { descriptor, diff_id } = blob?;
            let mut descriptor = descriptor.with_annotation(UNCOMPRESSED, diff_id.as_str());
            if let Some(rewrite) = rewrite.filter(|rewrite| number >= rewrite.keep) {
                descriptor =
                    descriptor.with_annotation(REWRITTEN_TIMESTAMP, seconds(rewrite.latest).to_string());
            }
            descriptors.push(descriptor);
        }
        let provider = Arc::new(CacheProvider { inner: inner.clone(), _handles: vec![self.handle.clone()] });
        Ok(Remote { descriptors, provider })
    }

    /// The layers of the tree as they were made or came first, if all of them can be had without making one;
    /// annotated as by [`layers`](Self::layers).
    ///
    /// # Errors
    /// When a record is gone.
    pub async fn existing_layers(&self) -> Result<Option<Vec<Descriptor>>, Error> {
        let inner = &self.handle.inner;
        let blobs = {
            let graph = inner.graph.lock();
            let units = graph.layer_units(self.id())?;
            let blobs = units.iter().map(|unit| Ok(graph.get(&unit.owner)?.facts.blob.clone()));
            blobs.collect::<Result<Vec<_>, Error>>()?
        };
        let mut descriptors = Vec::with_capacity(blobs.len());
        for blob in blobs {
            match blob {
                Some(LayerBlob { descriptor, diff_id }) if inner.can_have(&descriptor).await => {
                    descriptors.push(descriptor.with_annotation(UNCOMPRESSED, diff_id.as_str()));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(descriptors))
    }

    /// What is known of the layers, in the order of [`layers`](Self::layers).
    ///
    /// # Errors
    /// When a record is gone.
    pub fn layer_infos(&self) -> Result<Vec<LayerInfo>, Error> {
        let graph = self.handle.inner.graph.lock();
        let units = graph.layer_units(self.id())?;
        let infos = units.iter().map(|unit| {
            let facts = &graph.get(&unit.owner)?.facts;
            Ok(LayerInfo { created_at: facts.created_at, description: facts.description.clone() })
        });
        infos.collect()
    }

    /// Whether all that the tree is made of is here or is offered by somebody.
    pub fn is_available(&self) -> bool {
        let inner = &self.handle.inner;
        let missing = inner.graph.lock().missing_blobs(self.id());
        missing.iter().all(|digest| !inner.sources(digest).is_empty())
    }
}

impl CacheManager {
    /// The tree of a layer on top of another; the files are made when they are needed. A record that has
    /// the same blobs is used again.
    ///
    /// # Errors
    /// When the parent is gone or the database takes no changes.
    pub fn layer(
        &self,
        parent: Option<&ImmutableRef>,
        blob: &LayerBlob,
        options: CreateOptions,
    ) -> Result<ImmutableRef, Error> {
        let chain = {
            let graph = self.inner.graph.lock();
            let below = match parent {
                Some(parent) => Some(graph.blob_chain(parent.id())?),
                None => None,
            };
            chain_of(below.as_ref(), blob)
        };
        let index = format!("layer:{chain}");
        // One at a time, so that what is the same is found.
        let _one = self.inner.layering.lock();
        for id in self.search(&index) {
            if self.inner.graph.lock().acquire(&id).is_ok() {
                return Ok(self.inner.immutable(id));
            }
        }
        let made = self.inner.insert_layer(parent, blob, options)?;
        made.metadata().set_indexed("layer", chain.as_str(), &index)?;
        Ok(made)
    }
}

/// What identifies a chain of blobs.
pub(crate) fn chain_of(below: Option<&Digest>, blob: &LayerBlob) -> Digest {
    let below = below.map_or("", Digest::as_str);
    Digest::sha256(format!("{below} {} {}", blob.descriptor.digest, blob.diff_id))
}

/// A form that a layer can have.
#[derive(Clone, Copy, Debug)]
struct LayerForm {
    compression: Config,
    latest: Option<SystemTime>,
}

impl LayerForm {
    /// Its name among the forms of a record.
    fn name(&self) -> String {
        let Config { kind, level, .. } = self.compression;
        let mut name = kind.to_string();
        if let Some(level) = level {
            name.push_str(&format!("-{level}"));
        }
        if let Some(latest) = self.latest {
            name.push_str(&format!("@{}", seconds(latest)));
        }
        name
    }

    /// Whether a blob can be taken for it as it is.
    fn accepts(&self, blob: &Descriptor) -> bool {
        self.latest.is_none() && (!self.compression.force || kind_of(blob) == Some(self.compression.kind))
    }
}

/// How a layer is compressed, by its media type.
fn kind_of(blob: &Descriptor) -> Option<Compression> {
    let media_type = blob.media_type.as_str();
    if !media_type::is_layer(media_type) {
        return None;
    }
    Some(match media_type {
        _ if blob.annotations.contains_key(ESTARGZ_TOC) => Compression::EStargz,
        _ if media_type.ends_with("gzip") => Compression::Gzip,
        _ if media_type.ends_with("zstd") => Compression::Zstd,
        _ => Compression::Uncompressed,
    })
}

fn media_type_of(kind: Compression) -> &'static str {
    match kind {
        Compression::Uncompressed => media_type::OCI_LAYER,
        Compression::Gzip | Compression::EStargz => media_type::OCI_LAYER_GZIP,
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
    }
}

impl Inner {
    /// The blob of a layer in a form.
    async fn layer(self: Arc<Self>, unit: LayerUnit, form: LayerForm) -> Result<LayerBlob, Error> {
        let inner = self.clone();
        let key = (unit.owner.clone(), form.name());
        let work = move || shared("make a layer", async move { inner.layer_now(&unit, form).await });
        self.makes.run(key, work).await.map_err(Error::Shared)
    }

    async fn layer_now(self: &Arc<Self>, unit: &LayerUnit, form: LayerForm) -> Result<LayerBlob, Error> {
        let name = form.name();
        let (first, variant) = {
            let graph = self.graph.lock();
            let facts = &graph.get(&unit.owner)?.facts;
            (facts.blob.clone(), facts.variants.get(&name).cloned())
        };
        if let Some(blob) = &first {
            let there = self.can_have(&blob.descriptor).await;
            if form.accepts(&blob.descriptor) && there {
                return Ok(blob.clone());
            }
            if let Some(descriptor) = variant
                && self.is_there(&descriptor).await
            {
                let diff_id = descriptor.diff_id().unwrap_or_else(|| blob.diff_id.clone());
                return Ok(LayerBlob { descriptor, diff_id });
            }
            if there {
                self.fetch(&blob.descriptor).await?;
                match self.convert(blob, form).await {
                    Ok(made) => return self.remember(&unit.owner, &name, made),
                    Err(error) if error.is_lost_blob() => self.note_lost(&blob.descriptor.digest),
                    Err(error) => return Err(error),
                }
            }
            // The blob is lost; the files may be there.
            let ready = {
                let mut graph = self.graph.lock();
                let ready = graph.get(&unit.owner)?.has_files();
                if ready {
                    graph.forget_blobs(&unit.owner)?;
                }
                ready
            };
            if !ready {
                return Err(Error::NoSource(blob.descriptor.digest.clone()));
            }
        }
        // Times are rewritten in a layer that exists, so that it is the same as when it is written later.
        let plain = LayerForm { latest: None, ..form };
        let made = self.write(unit, plain.compression).await?;
        let made = self.remember(&unit.owner, &plain.name(), made)?;
        if form.latest.is_none() {
            return Ok(made);
        }
        let rewritten = self.convert(&made, form).await?;
        self.remember(&unit.owner, &name, rewritten)
    }

    /// Whether a blob is here or offered.
    async fn can_have(&self, blob: &Descriptor) -> bool {
        self.is_there(blob).await || !self.sources(&blob.digest).is_empty()
    }

    /// Keeps a blob that was made with its record.
    fn remember(&self, id: &RefId, name: &str, made: LayerBlob) -> Result<LayerBlob, Error> {
        let mut batch = Batch::new();
        let mut graph = self.graph.lock();
        graph.note_stored(&made.descriptor.digest, made.descriptor.size);
        // Another form may have another content, such as a table of it.
        let annotated = LayerBlob {
            descriptor: made.descriptor.clone().with_annotation(UNCOMPRESSED, made.diff_id.as_str()),
            diff_id: made.diff_id.clone(),
        };
        let record = graph.add_blob(id, name, annotated)?;
        store::put(&mut batch, id, record);
        self.apply("store a cache record", batch)?;
        Ok(made)
    }

    /// Writes what changes between two trees, in one pass: compared, archived, hashed, compressed, stored.
    async fn write(self: &Arc<Self>, unit: &LayerUnit, compression: Config) -> Result<LayerBlob, Error> {
        let failed = |source: Failure| Error::Layer { id: unit.owner.clone(), source };
        let mut stacks = Vec::new();
        for side in [&unit.lower, &unit.upper] {
            stacks.push(match side {
                None => None,
                Some(id) => {
                    let snapshot = self.materialize(id).await?;
                    let failed = Error::snapshot(format!("read cache record `{id}`"));
                    let directories = self.snapshotter.directories(&snapshot).await.map_err(failed)?;
                    Some(
                        Stack::new(directories)
                            .map_err(|error| Error::Layer { id: unit.owner.clone(), source: error.into() })?,
                    )
                }
            });
        }
        let (upper, lower) = (stacks.pop().flatten(), stacks.pop().flatten());
        let content = self.content.clone();
        let work = spawn_blocking(move || {
            let ingester = content.ingest(Expected::default())?;
            write_layer(lower.as_ref(), upper.as_ref(), compression, ingester)
        });
        match work.await {
            Ok(made) => made.map_err(failed),
            Err(error) => Err(Error::Interrupted { action: "make a layer", reason: error.to_string() }),
        }
    }

    /// Makes another form of a layer that is in the store.
    async fn convert(self: &Arc<Self>, blob: &LayerBlob, form: LayerForm) -> Result<LayerBlob, Error> {
        let digest = &blob.descriptor.digest;
        let (content, descriptor) = (self.content.clone(), blob.descriptor.clone());
        // Only what is asked for is another: a layer keeps its compression, unless one is forced.
        let kind = kind_of(&descriptor).filter(|_| !form.compression.force);
        let compression = kind.map_or(form.compression, |kind| match kind == form.compression.kind {
            true => form.compression,
            false => Config { kind, ..Config::default() },
        });
        let work = spawn_blocking(move || convert_layer(&content, &descriptor, compression, form.latest));
        match work.await {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(error)) => match error.downcast::<buildkit_util_contentutil::Error>() {
                Ok(error) => Err(Error::blob(digest, *error)),
                Err(error) => Err(Error::Convert { digest: digest.clone(), source: error }),
            },
            Err(error) => Err(Error::Interrupted { action: "convert a layer", reason: error.to_string() }),
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn layer_blob(kind: Compression, info: BlobInfo, layer: &Layer) -> LayerBlob {
    let mut descriptor = Descriptor::new(media_type_of(kind), info.digest, info.size);
    descriptor.annotations =
        layer.annotations().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    LayerBlob { descriptor, diff_id: layer.diff_id.clone() }
}

fn write_layer(
    lower: Option<&Stack>,
    upper: Option<&Stack>,
    compression: Config,
    ingester: Box<dyn Ingester>,
) -> Result<LayerBlob, Failure> {
    let options = WriteOptions::default();
    if compression.kind == Compression::Uncompressed {
        // The store hashes it already.
        let mut out = ingester;
        archive::write_layer(lower, upper, &mut out, &options)?;
        let info = out.commit()?;
        let layer = Layer { diff_id: info.digest.clone(), size: info.size, estargz: None };
        return Ok(layer_blob(compression.kind, info, &layer));
    }
    let mut out = LayerWriter::new(compression, ingester)?;
    archive::write_layer(lower, upper, &mut out, &options)?;
    let (ingester, layer) = out.finish()?;
    Ok(layer_blob(compression.kind, ingester.commit()?, &layer))
}

fn convert_layer(
    content: &Arc<dyn ContentStore>,
    descriptor: &Descriptor,
    compression: Config,
    latest: Option<SystemTime>,
) -> Result<LayerBlob, Failure> {
    let mut input = content.open(&descriptor.digest, Some(descriptor.size))?;
    // A table of contents describes the layer that it stands in, and no other.
    let len = match kind_of(descriptor) {
        Some(Compression::EStargz) => estargz_payload(&mut input)?,
        _ => None,
    };
    input.seek(SeekFrom::Start(0))?;
    let mut ingester = content.ingest(Expected::default())?;
    let conversion = Conversion { to: compression, epoch: latest.map(seconds), ..Conversion::default() };
    let input = BufReader::with_capacity(BUFFER, input.take(len.unwrap_or(descriptor.size)));
    let (layer, _) = converter::convert(input, &conversion, &mut ingester)?;
    Ok(layer_blob(compression.kind, ingester.commit()?, &layer))
}

fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}
