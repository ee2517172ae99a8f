use buildkit_api_services_control::StatusResponse;
use buildkit_util_appcontext as tasks;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{Error as ContentError, ReadBlob};
use futures::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;

use crate::Error;
use crate::history::BuildHistory;
use crate::logs::read_message;

/// The progress of a build that is over, as it was told. A message that cannot be read is the last one.
pub type Replay = BoxStream<'static, Result<StatusResponse, Error>>;

/// Bytes of messages that are read at a time.
const BATCH: usize = 1 << 20;

struct Reader {
    blob: Box<dyn ReadBlob>,
    left: u64,
    reference: String,
}

impl BuildHistory {
    /// The progress of a build that is over; nothing if there is no record of it. Waits for one that is being written.
    ///
    /// # Errors
    /// When the record or its blob cannot be read.
    pub async fn replay(&self, reference: &str) -> Result<Option<Replay>, Error> {
        self.settled(Some(reference)).await;
        let record = match self.inner.store.get(reference) {
            Ok(record) => record,
            Err(Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Of a build that the daemon did not survive.
        let Some(logs) = record.logs else { return Ok(Some(stream::empty().boxed())) };
        let damaged = || Error::Damaged(reference.to_owned());
        let digest = Digest::parse(&logs.digest).map_err(|_| damaged())?;
        let left = u64::try_from(logs.size).map_err(|_| damaged())?;
        let content = self.inner.store.content().clone();
        let open = tasks::spawn_blocking(move || content.open(&digest, Some(left)));
        let blob = open
            .await
            .map_err(|_| damaged())?
            .map_err(Error::content(format!("read the progress of build `{reference}`")))?;
        let reader = Reader { blob, left, reference: reference.to_owned() };
        let batches = stream::try_unfold(Some(reader), |reader| async move {
            let Some(reader) = reader else { return Ok(None) };
            let reference = reader.reference.clone();
            let read = tasks::spawn_blocking(move || read_batch(reader)).await;
            read.unwrap_or_else(|_| Err(Error::Damaged(reference)))
        });
        let messages = batches.map(|batch: Result<Vec<StatusResponse>, Error>| match batch {
            Ok(messages) => stream::iter(messages.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        });
        Ok(Some(messages.flatten().boxed()))
    }
}

/// Some messages, and the reader of the rest.
#[expect(clippy::type_complexity, reason = "what `try_unfold` wants")]
fn read_batch(mut reader: Reader) -> Result<Option<(Vec<StatusResponse>, Option<Reader>)>, Error> {
    let (mut messages, mut size) = (Vec::new(), 0);
    while size < BATCH {
        let action = || format!("read the progress of build `{}`", reader.reference);
        let read = read_message(&mut *reader.blob, &mut reader.left);
        match read.map_err(|error| Error::content(action())(ContentError::from_io(error)))? {
            Some(message) => {
                size += message.encoded_len();
                messages.push(message);
            }
            None if messages.is_empty() => return Ok(None),
            None => return Ok(Some((messages, None))),
        }
    }
    Ok(Some((messages, Some(reader))))
}
