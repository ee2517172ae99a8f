use std::sync::Arc;
use std::time::SystemTime;

use buildkit_api_services_control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest,
};
use buildkit_util_appcontext as tasks;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::Error;
use crate::filter::{Filters, limit, started};
use crate::history::{Attached, BuildHistory};
use crate::store::decode;

/// What happened and happens to records. An error is the last one.
pub type Events = BoxStream<'static, Result<BuildHistoryEvent, Error>>;

/// A record that is wanted, encoded: there may be many, and listeners may be slow.
struct Chosen {
    started: i64,
    record: Bytes,
}

impl BuildHistory {
    /// Tells of builds that run, then of records, then of what happens. Filters and limit are for records only, as in
    /// the original.
    ///
    /// # Errors
    /// When a filter or the limit makes no sense, or the record that is asked for is deleted.
    pub async fn listen(&self, request: BuildHistoryRequest) -> Result<Events, Error> {
        let filters = Filters::parse(&request.filter, SystemTime::now())?;
        let reference = request.r#ref;
        self.settled((!reference.is_empty()).then_some(&reference)).await;
        let Attached { events, active, listening } = self.inner.attach(&reference)?;
        let active = active.into_iter().map(|record| {
            Ok(BuildHistoryEvent {
                r#type: BuildHistoryEventType::Started.into(),
                record: Some((*record).clone()),
            })
        });
        let records = if request.active_only {
            Vec::new()
        } else {
            let (history, reference) = (self.clone(), reference.clone());
            // There may be many, and each has to be decoded.
            let work = tasks::spawn_blocking(move || history.choose(&reference, &filters, request.limit));
            work.await.unwrap_or_else(|error| Err(Error::Invalid(error.to_string())))?
        };
        let records = records.into_iter().filter_map(|chosen| decode(&chosen.record)).map(|record| {
            Ok(BuildHistoryEvent { r#type: BuildHistoryEventType::Complete.into(), record: Some(record) })
        });
        let known = stream::iter(active.collect::<Vec<_>>()).chain(stream::iter(records));
        let events = match events.filter(|_| !request.early_exit) {
            Some(events) => known.chain(follow(events, reference)).boxed(),
            None => known.boxed(),
        };
        // The record stays as long as the stream.
        let events = events.map(move |event| {
            let _listening = &listening;
            event
        });
        Ok(events.boxed())
    }

    fn choose(&self, reference: &str, filters: &Filters, count: i32) -> Result<Vec<Chosen>, Error> {
        let is_wanted = |record: &BuildHistoryRecord| {
            !self.inner.is_deleted(&record.r#ref) && filters.match_record(record)
        };
        let records = if reference.is_empty() {
            self.inner.store.records()?.into_iter().map(|entry| entry.value).collect()
        } else {
            self.inner.store.encoded(reference)?.into_iter().collect::<Vec<_>>()
        };
        let records = records.into_iter().filter_map(|value| {
            let record = decode(&value)?;
            is_wanted(&record).then(|| Chosen { started: started(&record), record: value })
        });
        limit(records.collect(), count, |chosen| chosen.started)
    }
}

/// What happens to all builds, or to one, until the daemon ends.
fn follow(events: broadcast::Receiver<Arc<BuildHistoryEvent>>, reference: String) -> Events {
    stream::unfold(Some((events, reference)), |listener| async move {
        let (mut events, reference) = listener?;
        loop {
            match events.recv().await {
                Ok(event) => {
                    let id = event.record.as_ref().map_or("", |record| &record.r#ref);
                    if reference.is_empty() || id == reference {
                        return Some((Ok((*event).clone()), Some((events, reference))));
                    }
                }
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(count)) => return Some((Err(Error::Missed(count)), None)),
            }
        }
    })
    .boxed()
}
