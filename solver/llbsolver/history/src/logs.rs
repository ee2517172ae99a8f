use std::collections::HashMap;
use std::io::{self, Read, Write as _};
use std::time::SystemTime;

use buildkit_api_services_control::{StatusResponse, status as wire};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{Error as ContentError, Ingester, ReadBlob};
use buildkit_util_progress::{SkippedSteps, SolveStatus};
use bytes::Bytes;
use prost::Message as _;

use crate::Error;
use crate::store::{Lease, Store};

/// Bytes of encoded progress that are kept before they are written.
const CHUNK: usize = 1 << 20;
/// Runs of one step that are told apart.
const RUNS: usize = 64;
/// Bytes of a length.
const HEAD: usize = 4;

/// The progress of a build on its way into a blob, and what is to be said of it in the record.
#[derive(Default)]
pub(crate) struct ProgressLog {
    buffer: Vec<u8>,
    /// Has what no longer fits into the buffer.
    file: Option<Box<dyn Ingester>>,
    skipped: SkippedSteps,
    pub(crate) steps: HashMap<Digest, Step>,
    pub(crate) warnings: usize,
}

/// A step as far as the record is about it.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) cached: bool,
    pub(crate) completed: bool,
    /// In the order in which they were told.
    pub(crate) runs: Vec<Run>,
}

/// One run of a step.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) started: SystemTime,
    pub(crate) completed: Option<SystemTime>,
    pub(crate) cached: bool,
    pub(crate) error: String,
}

impl ProgressLog {
    /// Takes changes in.
    pub(crate) fn add(&mut self, mut status: SolveStatus) {
        self.skipped.complete(&mut status);
        self.warnings += status.warnings.len();
        for vertex in &status.vertexes {
            let step = self.steps.entry(vertex.digest.clone()).or_default();
            step.name.clone_from(&vertex.name);
            step.cached |= vertex.cached;
            step.completed |= vertex.completed.is_some();
            let Some(started) = vertex.started else { continue };
            let run = Run {
                started,
                completed: vertex.completed,
                cached: vertex.cached,
                error: vertex.error.clone(),
            };
            let has_room = step.runs.len() < RUNS;
            match step.runs.last_mut() {
                Some(last) if last.started == started => *last = run,
                _ if has_room => step.runs.push(run),
                _ => {}
            }
        }
        for message in wire::to_messages(status) {
            let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
            self.buffer.extend_from_slice(&length.to_le_bytes());
            self.buffer.extend_from_slice(&message.encode_to_vec());
        }
    }

    /// Whether there is so much that it should be written.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= CHUNK
    }

    /// Writes what is there. Blocks.
    pub(crate) fn spill(&mut self, store: &Store) -> Result<(), Error> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(store.ingest()?),
        };
        let written = file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| Error::content("store the progress of a build")(ContentError::from_io(error)))
    }

    /// Stores the rest. Blocks.
    pub(crate) fn commit(&mut self, store: &Store) -> Result<Lease, Error> {
        self.spill(store)?;
        let file = match self.file.take() {
            Some(file) => file,
            None => store.ingest()?,
        };
        store.commit(file)
    }

    /// Number of steps, of those from the cache, and of those that ended.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let count = |wanted: fn(&Step) -> bool| self.steps.values().filter(|step| wanted(step)).count();
        (self.steps.len(), count(|step| step.cached), count(|step| step.completed))
    }
}

/// Reads the next message of a blob with `left` bytes to come; nothing at its end. Blocks.
pub(crate) fn read_message(blob: &mut dyn ReadBlob, left: &mut u64) -> io::Result<Option<StatusResponse>> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    if *left == 0 {
        return Ok(None);
    }
    let mut head = [0; HEAD];
    blob.read_exact(&mut head)?;
    let length = u32::from_le_bytes(head);
    *left = left
        .checked_sub(HEAD as u64 + u64::from(length))
        .ok_or_else(|| invalid("a message is longer than the rest of the blob"))?;
    let mut message = Vec::new();
    blob.take(u64::from(length)).read_to_end(&mut message)?;
    if message.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let message = StatusResponse::decode(Bytes::from(message));
    message.map(Some).map_err(|_| invalid("a message cannot be decoded"))
}
