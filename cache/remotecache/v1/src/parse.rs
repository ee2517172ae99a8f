//! Reads what others wrote. Nothing of it is trusted: not its size, its indexes, nor that it ends.

use buildkit_errdefs::{Classify, Kind};
use buildkit_exporter_util_epoch::Timestamp;
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::Descriptor;
use foldhash::HashMap;

use crate::records::{Link, Record, RecordResult, Records};
use crate::types::{CacheConfig, CacheLayer, CacheRecord, NO_PARENT};

/// Most bytes of a document: those that upstream reads.
pub const MAX_CONFIG: usize = 1 << 20;

/// Most layers of all results together. A document of [`MAX_CONFIG`] bytes whose results have 127 layers,
/// as many as can be mounted, stays below.
const MAX_RESULT_LAYERS: usize = 1 << 20;

/// Records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// More than can be taken.
    #[error("Cannot read cache records of {0} bytes: the limit is {MAX_CONFIG}")]
    TooLarge(usize),
    /// Not the document.
    #[error("Cannot read cache records: {0}")]
    Json(#[from] serde_json::Error),
    /// Indexes that make no sense, or too much of something.
    #[error("Cannot read cache records: {0}")]
    Invalid(String),
}

impl Classify for ParseError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Records {
    /// Reads the document of a cache whose manifest has these layers. Results with other layers are left out.
    ///
    /// # Errors
    /// When the document is too large, is no JSON of this form, or has indexes of what is not there or that go
    /// in circles.
    pub fn parse(document: &[u8], available: Vec<Descriptor>) -> Result<Self, ParseError> {
        if document.len() > MAX_CONFIG {
            return Err(ParseError::TooLarge(document.len()));
        }
        Self::from_config(&serde_json::from_slice(document)?, available)
    }

    pub(crate) fn from_config(config: &CacheConfig, available: Vec<Descriptor>) -> Result<Self, ParseError> {
        let mut blobs: HashMap<&Digest, usize> = HashMap::default();
        for (place, layer) in available.iter().enumerate() {
            blobs.entry(&layer.digest).or_insert(place);
        }
        let order = order(&config.records)?;
        let mut places = vec![0; config.records.len()];
        let mut reader = ResultReader { layers: &config.layers, blobs: &blobs, left: MAX_RESULT_LAYERS };
        let mut records = Vec::with_capacity(order.len());
        for place in order {
            let Some(record) = config.records.get(place) else { continue };
            let links = |inputs: &Vec<crate::types::CacheInput>| {
                let links = inputs.iter().filter_map(|input| {
                    let record = *places.get(usize::try_from(input.link).ok()?)?;
                    Some(Link { record, selector: input.selector.clone() })
                });
                links.collect()
            };
            let inputs = record.inputs.iter().map(links).collect();
            if let Some(new) = places.get_mut(place) {
                *new = records.len();
            }
            records.push(Record { digest: record.digest.clone(), inputs, results: reader.results(record)? });
        }
        Ok(Self { layers: available, records })
    }
}

/// An order in which each record stands after those that lead to it.
fn order(records: &[CacheRecord]) -> Result<Vec<usize>, ParseError> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; records.len()];
    let mut order = Vec::with_capacity(records.len());
    for start in 0..records.len() {
        let mut stack = vec![start];
        while let Some(&place) = stack.last() {
            let (Some(record), Some(state)) = (records.get(place), states.get_mut(place)) else {
                return Err(ParseError::Invalid(format!("invalid record ID: {place}")));
            };
            match *state {
                State::Done => {
                    stack.pop();
                }
                State::Open => {
                    *state = State::Done;
                    stack.pop();
                    order.push(place);
                }
                State::New => {
                    *state = State::Open;
                    if record.inputs.iter().any(Vec::is_empty) {
                        return Err(ParseError::Invalid(format!("invalid empty input for record {place}")));
                    }
                    for input in record.inputs.iter().flatten() {
                        let parent = usize::try_from(input.link).ok();
                        match parent.and_then(|parent| Some((parent, states.get(parent)?))) {
                            None => {
                                let text = format!("invalid record ID: {}", input.link);
                                return Err(ParseError::Invalid(text));
                            }
                            Some((_, State::Open)) => {
                                return Err(ParseError::Invalid("invalid looping record".to_owned()));
                            }
                            Some((_, State::Done)) => {}
                            Some((parent, State::New)) => stack.push(parent),
                        }
                    }
                }
            }
        }
    }
    Ok(order)
}

struct ResultReader<'a> {
    layers: &'a [CacheLayer],
    /// Places of layers that can be had.
    blobs: &'a HashMap<&'a Digest, usize>,
    /// How many layers may still come.
    left: usize,
}

impl ResultReader<'_> {
    fn results(&mut self, record: &CacheRecord) -> Result<Vec<RecordResult>, ParseError> {
        let mut results = Vec::new();
        for result in &record.results {
            self.add(self.stack(result.layer)?, result.created_at, &mut results)?;
        }
        for chain in &record.chained_results {
            self.add(chain.layers.clone(), chain.created_at, &mut results)?;
        }
        Ok(results)
    }

    /// A layer and all below it, lowest first.
    fn stack(&self, top: i64) -> Result<Vec<i64>, ParseError> {
        let mut stack = Vec::new();
        let mut next = top;
        loop {
            if stack.len() >= self.layers.len().min(self.left) && next != NO_PARENT {
                // More than there are: either one of them comes again, or all results have too many.
                self.layer(next)?;
                return Err(ParseError::Invalid("invalid looping layer, or too many layers".to_owned()));
            }
            let layer = self.layer(next)?;
            stack.push(next);
            if layer.parent == NO_PARENT {
                break;
            }
            next = layer.parent;
        }
        stack.reverse();
        Ok(stack)
    }

    fn layer(&self, place: i64) -> Result<&CacheLayer, ParseError> {
        let layer = usize::try_from(place).ok().and_then(|place| self.layers.get(place));
        layer.ok_or_else(|| ParseError::Invalid(format!("invalid layer index {place}")))
    }

    fn add(
        &mut self,
        stack: Vec<i64>,
        created_at: Timestamp,
        results: &mut Vec<RecordResult>,
    ) -> Result<(), ParseError> {
        let Some(left) = self.left.checked_sub(stack.len()) else {
            return Err(ParseError::Invalid(format!("more than {MAX_RESULT_LAYERS} layers of results")));
        };
        self.left = left;
        let mut layers = Vec::with_capacity(stack.len());
        let mut complete = !stack.is_empty();
        for place in stack {
            match self.blobs.get(&self.layer(place)?.blob) {
                Some(layer) => layers.push(*layer),
                None => complete = false,
            }
        }
        if complete {
            results.push(RecordResult { layers, created_at });
        }
        Ok(())
    }
}
