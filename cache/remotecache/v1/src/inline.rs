//! Records inside of an image, which has the layers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::{Descriptor, to_json};
use foldhash::HashMap;

use crate::parse::{MAX_CONFIG, ParseError};
use crate::records::{RecordResult, Records};
use crate::types::{CacheConfig, CacheLayer, CacheRecord, CacheResult, ChainedResult};
use crate::write::{index, newest, sorted, wire_inputs};

/// From year 1, where Go counts from, to 1970.
const GO_EPOCH: Duration = Duration::from_secs(62_135_596_800);

impl Records {
    /// The records for the configuration of an image that has these layers: JSON, before it is encoded once
    /// more. Results that have layers which are not in the image are left out; `None` if none remains.
    pub fn to_inline(&self, image: &[Descriptor]) -> Option<Vec<u8>> {
        let mut by_blob: HashMap<&Digest, usize> = HashMap::default();
        let mut by_content: HashMap<Digest, usize> = HashMap::default();
        for (place, layer) in image.iter().enumerate() {
            by_blob.insert(&layer.digest, place);
            by_content.insert(layer.diff_id().unwrap_or_else(|| layer.digest.clone()), place);
        }
        let in_image = |layer: usize| {
            let layer = self.layers.get(layer)?;
            // The same files, though compressed otherwise, are the same layer.
            by_blob.get(&layer.digest).or_else(|| by_content.get(&layer.diff_id()?)).copied()
        };
        let is_at = |layer: usize, place: usize| {
            let (Some(layer), Some(there)) = (self.layers.get(layer), image.get(place)) else { return false };
            layer.digest == there.digest || layer.diff_id().is_some_and(|id| there.diff_id() == Some(id))
        };
        let zero: SystemTime = UNIX_EPOCH.checked_sub(GO_EPOCH).unwrap_or(UNIX_EPOCH);
        let mut found = false;
        let mut records = Vec::new();
        for record in self.matching() {
            let results = record.results.iter().filter_map(|result| {
                let layers: Option<Vec<usize>> = result.layers.iter().map(|layer| in_image(*layer)).collect();
                Some((result, layers.filter(|layers| !layers.is_empty())?))
            });
            let best = newest(results, |(result, _): &(&RecordResult, _)| *result);
            let (mut results, mut chained_results) = (Vec::new(), Vec::new());
            if let Some((result, layers)) = best {
                found = true;
                // A layer may be in an image twice.
                if result.layers.iter().enumerate().all(|(place, layer)| is_at(*layer, place)) {
                    let layer = index(layers.len() - 1);
                    results.push(CacheResult { layer, created_at: result.created_at });
                } else {
                    // When it was made is lost here, as it is upstream.
                    let layers = layers.into_iter().map(index).collect();
                    chained_results.push(ChainedResult { layers, created_at: zero.into() });
                }
            }
            let inputs = wire_inputs(&record.inputs);
            records.push(CacheRecord { results, chained_results, digest: record.digest, inputs });
        }
        found.then(|| to_json(&sorted(records)))
    }

    /// Reads the records in the configuration of an image that has these layers.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_inline(json: &[u8], image: Vec<Descriptor>) -> Result<Self, ParseError> {
        if json.len() > MAX_CONFIG {
            return Err(ParseError::TooLarge(json.len()));
        }
        let records: Option<Vec<CacheRecord>> = serde_json::from_slice(json)?;
        let layers = image.iter().enumerate().map(|(place, layer)| CacheLayer {
            blob: layer.digest.clone(),
            parent: index(place) - 1,
            annotations: None,
        });
        let config = CacheConfig { layers: layers.collect(), records: records.unwrap_or_default() };
        Self::from_config(&config, image)
    }
}
