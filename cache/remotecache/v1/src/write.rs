//! Makes the document of records. The order of all lists is that of upstream, so that equal caches are
//! equal blobs.

use std::cmp::Ordering;

use buildkit_util_cachedigest::Digest;
use foldhash::HashMap;

use crate::records::{Record, RecordResult, Records};
use crate::types::{CacheConfig, CacheInput, CacheLayer, CacheRecord, CacheResult, NO_PARENT};

impl Records {
    /// The document. Of several results of a record the newest counts. Keys that never match again are left
    /// out, with those that only they lead to; so are results without layers.
    pub fn to_config(&self) -> CacheConfig {
        let mut tree = LayerTree::default();
        let mut records = Vec::new();
        for record in self.matching() {
            let best = record.results.iter().filter_map(|result| {
                let blobs: Option<Vec<&Digest>> =
                    result.layers.iter().map(|layer| Some(&self.layers.get(*layer)?.digest)).collect();
                Some((result, blobs.filter(|blobs| !blobs.is_empty())?))
            });
            let best = newest(best, |(result, _)| result);
            let results = best.map(|(result, blobs)| (tree.add(&blobs), result));
            let results = results.into_iter().filter_map(|(layer, result)| {
                Some(CacheResult { layer: layer?, created_at: result.created_at })
            });
            records.push(CacheRecord {
                results: results.collect(),
                chained_results: Vec::new(),
                digest: record.digest,
                inputs: wire_inputs(&record.inputs),
            });
        }
        let mut config = CacheConfig { layers: tree.layers, records };
        sort_layers(&mut config);
        config.records = sorted(config.records);
        config
    }

    /// The records that can match again, with their places and links in a list without the others.
    pub(crate) fn matching(&self) -> Vec<Record> {
        let mut places: Vec<Option<usize>> = Vec::with_capacity(self.records.len());
        let mut kept = Vec::new();
        for record in &self.records {
            let inputs: Vec<Vec<_>> = record
                .inputs
                .iter()
                .map(|links| {
                    let links = links.iter().filter_map(|link| {
                        let record = places.get(link.record).copied().flatten()?;
                        Some(crate::Link { record, selector: link.selector.clone() })
                    });
                    links.collect()
                })
                .collect();
            // Digests of this algorithm are made up for one build.
            let matches =
                record.digest.algorithm() != "random" && inputs.iter().all(|links| !links.is_empty());
            places.push(matches.then_some(kept.len()));
            if matches {
                kept.push(Record { digest: record.digest.clone(), inputs, results: record.results.clone() });
            }
        }
        kept
    }
}

/// Of several results the one that was made last; of equal ones the first.
pub(crate) fn newest<T>(results: impl Iterator<Item = T>, result: impl Fn(&T) -> &RecordResult) -> Option<T> {
    results.reduce(|best, next| match result(&next).created_at > result(&best).created_at {
        true => next,
        false => best,
    })
}

pub(crate) fn wire_inputs(inputs: &[Vec<crate::Link>]) -> Vec<Vec<CacheInput>> {
    let wire = |link: &crate::Link| CacheInput { selector: link.selector.clone(), link: index(link.record) };
    inputs.iter().map(|links| links.iter().map(wire).collect()).collect()
}

pub(crate) fn index(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// Layers that results share, each once for what is below it.
#[derive(Default)]
struct LayerTree {
    layers: Vec<CacheLayer>,
    places: HashMap<(i64, Digest), i64>,
}

impl LayerTree {
    /// The place of the topmost layer.
    fn add(&mut self, blobs: &[&Digest]) -> Option<i64> {
        let mut parent = NO_PARENT;
        for &blob in blobs {
            parent = *self.places.entry((parent, blob.clone())).or_insert_with(|| {
                self.layers.push(CacheLayer { blob: blob.clone(), parent, annotations: None });
                index(self.layers.len() - 1)
            });
        }
        (parent != NO_PARENT).then_some(parent)
    }
}

fn sort_layers(config: &mut CacheConfig) {
    let mut order: Vec<usize> = (0..config.layers.len()).collect();
    let key = |place: &usize| config.layers.get(*place).map(|layer| (&layer.blob, layer.parent));
    order.sort_by(|a, b| key(a).cmp(&key(b)));
    let places = inverse(&order);
    let layers = order.iter().filter_map(|place| config.layers.get(*place));
    let layers = layers.map(|layer| CacheLayer { parent: moved(&places, layer.parent), ..layer.clone() });
    config.layers = layers.collect();
    for result in config.records.iter_mut().flat_map(|record| &mut record.results) {
        result.layer = moved(&places, result.layer);
    }
}

/// The records in the order of upstream: by their digests, then by their inputs.
pub(crate) fn sorted(mut records: Vec<CacheRecord>) -> Vec<CacheRecord> {
    let digests: Vec<Digest> = records.iter().map(|record| record.digest.clone()).collect();
    let digest = |input: &CacheInput| usize::try_from(input.link).ok().and_then(|link| digests.get(link));
    let compare_inputs =
        |a: &CacheInput, b: &CacheInput| (&a.selector, digest(a)).cmp(&(&b.selector, digest(b)));
    for links in records.iter_mut().flat_map(|record| &mut record.inputs) {
        links.sort_by(compare_inputs);
    }
    let compare = |a: &CacheRecord, b: &CacheRecord| {
        let inputs = || {
            a.inputs.iter().zip(&b.inputs).map(|(a, b)| {
                let links = || a.iter().zip(b).map(|(a, b)| compare_inputs(a, b));
                a.len().cmp(&b.len()).then_with(|| first_difference(links()))
            })
        };
        a.digest
            .cmp(&b.digest)
            .then_with(|| a.inputs.len().cmp(&b.inputs.len()))
            .then_with(|| first_difference(inputs()))
    };
    let mut numbered: Vec<(usize, CacheRecord)> = records.into_iter().enumerate().collect();
    numbered.sort_by(|(_, a), (_, b)| compare(a, b));
    let order: Vec<usize> = numbered.iter().map(|(place, _)| *place).collect();
    let places = inverse(&order);
    let mut records: Vec<CacheRecord> = numbered.into_iter().map(|(_, record)| record).collect();
    for links in records.iter_mut().flat_map(|record| &mut record.inputs) {
        for input in links.iter_mut() {
            input.link = moved(&places, input.link);
        }
        links.sort_by_key(|input| input.link);
    }
    records
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Where each element of a list went that was put into this order.
fn inverse(order: &[usize]) -> Vec<usize> {
    let mut places = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        if let Some(place) = places.get_mut(*old) {
            *place = new;
        }
    }
    places
}

/// The new place of an element; what names none stays.
fn moved(places: &[usize], place: i64) -> i64 {
    let new = usize::try_from(place).ok().and_then(|place| places.get(place));
    new.map_or(place, |new| index(*new))
}
