//! Cache records of results: those that images carry in their configurations, and those of whole caches.

use std::collections::HashMap;
use std::iter;

use async_trait::async_trait;
use buildkit_cache::{CacheManager, Error, ImmutableRef, LayerOptions, RefId};
use buildkit_cache_remotecache_v1::{Link, Record, RecordResult, Records};
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_exporter::ExportResult;
use buildkit_exporter_containerimage_exptypes::key;
use buildkit_exporter_util_epoch::Timestamp;
use buildkit_solver::{
    CachedResult, ExportMode, ExportOptions, ExportRecord, ExportableKey, KeySource, LayerSource, ResultId,
    export,
};
use buildkit_solver_llbsolver_ops::{JobImports, LlbDomain};
use buildkit_solver_result::Refs;
use buildkit_util_ocispec::{Descriptor, annotation};
use parking_lot::Mutex;

use crate::Imports;
use crate::results::SCRATCH;
use crate::solver::LlbSolverOptions;

/// Remembers the keys of results, for the records of what is made of them.
pub(crate) struct ResultKeys {
    keys: Mutex<HashMap<RefId, Vec<ExportableKey>>>,
    /// Caches that the build looks into: what it has of them is exported with the rest.
    imports: JobImports,
}

impl ResultKeys {
    /// No keys yet, of a build that looks into these caches.
    pub(crate) fn new(imports: JobImports) -> Self {
        Self { keys: Mutex::default(), imports }
    }

    /// A result of the build, which may be exported.
    pub(crate) fn note(&self, result: &CachedResult<LlbDomain>) {
        if let Some(tree) = &result.output {
            self.keys.lock().insert(tree.id().clone(), result.keys.clone());
        }
    }

    /// Puts the records of each tree into the metadata, where exporters of images find them. An image whose
    /// records cannot be had goes without.
    pub(crate) async fn add_inline(
        &self,
        result: &mut ExportResult,
        solver: &LlbSolverOptions,
        options: &LayerOptions,
    ) {
        // Records name layers by their places, which are the same when times of files are rewritten, and for
        // exporters that compress them otherwise: those for one image are those for all.
        let options = LayerOptions { rewrite: None, ..options.clone() };
        let trees: Vec<(String, ImmutableRef)> = match &result.refs {
            Refs::Single(tree) => {
                tree.iter().map(|tree| (key::INLINE_CACHE.to_owned(), tree.clone())).collect()
            }
            Refs::Many(trees) => trees
                .iter()
                .filter_map(|(id, tree)| Some((format!("{}/{id}", key::INLINE_CACHE), tree.clone()?)))
                .collect(),
        };
        for (key, tree) in trees {
            match self.inline(&tree, solver, &options).await {
                Ok(Some(records)) => {
                    result.metadata.insert(key, records.into());
                }
                Ok(None) => tracing::warn!(tree = %tree.id(), "failed to match any cache with layers"),
                Err(error) => tracing::warn!(%error, tree = %tree.id(), "no inline cache for an image"),
            }
        }
    }

    async fn inline(
        &self,
        tree: &ImmutableRef,
        solver: &LlbSolverOptions,
        options: &LayerOptions,
    ) -> Result<Option<Vec<u8>>, Error> {
        let image = tree.layers(options).await?.descriptors;
        let records = self.records(std::slice::from_ref(tree), solver, options, ExportMode::Min).await?;
        Ok(records.0.to_inline(&image))
    }

    /// The records that lead to some trees, and trees that keep their layers.
    pub(crate) async fn records(
        &self,
        trees: &[ImmutableRef],
        solver: &LlbSolverOptions,
        options: &LayerOptions,
        mode: ExportMode,
    ) -> Result<(Records, Vec<ImmutableRef>), Error> {
        let keys: Vec<ExportableKey> = {
            let known = self.keys.lock();
            trees.iter().filter_map(|tree| known.get(tree.id())).flatten().cloned().collect()
        };
        let source = CacheLayers {
            cache: &solver.solver.domain().services().cache,
            options,
            imports: &solver.imports,
            held: Mutex::default(),
        };
        let walk = ExportOptions { mode, roots: false, only_this_build: false };
        let imports = self.imports.all();
        let local: &dyn KeySource = &**solver.solver.keys();
        let stores: Vec<&dyn KeySource> =
            iter::once(local).chain(imports.iter().map(|import| &**import)).collect();
        let exported = export(&keys, &stores, &source, walk).await?;
        Ok((plain(exported), source.held.into_inner()))
    }
}

/// What was exported, without what only this daemon knows.
fn plain(exported: Vec<ExportRecord<Vec<Descriptor>>>) -> Records {
    let mut records = Records::default();
    for record in exported {
        let inputs = record.inputs.into_iter().map(|links| {
            let links = links.into_iter().map(|link| Link { record: link.record, selector: link.selector });
            links.collect()
        });
        let results = record.results.into_iter().map(|result| {
            let first = records.layers.len();
            records.layers.extend(result.layers);
            RecordResult {
                layers: (first..records.layers.len()).collect(),
                created_at: result.created_at.into(),
            }
        });
        let (digest, inputs, results) = (record.digest, inputs.collect(), results.collect());
        records.records.push(Record { digest, inputs, results });
    }
    records
}

/// The layers of results in the cache.
struct CacheLayers<'a> {
    cache: &'a CacheManager,
    options: &'a LayerOptions,
    imports: &'a Imports,
    /// What was looked at.
    held: Mutex<Vec<ImmutableRef>>,
}

#[async_trait]
impl LayerSource for CacheLayers<'_> {
    type Layers = Vec<Descriptor>;
    type Error = Error;

    async fn layers(&self, result: &ResultId, make: bool) -> Result<Option<Vec<Descriptor>>, Error> {
        if result.0 == SCRATCH {
            return Ok(None);
        }
        if Imports::is_imported(result) {
            return Ok(self.imports.layers(result));
        }
        let tree = match self.cache.get(&RefId::new(&result.0)).await {
            Ok(tree) => tree,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let layers = match make {
            true => Some(tree.layers(self.options).await?.descriptors),
            false => tree.existing_layers().await?,
        };
        let Some(mut layers) = layers else { return Ok(None) };
        for (layer, info) in layers.iter_mut().zip(tree.layer_infos()?) {
            let created = Timestamp::from(info.created_at).to_string();
            layer.annotations.insert(annotation::CREATED_AT.to_owned(), created);
        }
        self.held.lock().push(tree);
        Ok(Some(layers))
    }
}
