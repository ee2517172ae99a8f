//! The stores of keys and results: questions, saves, releases.

use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use super::fault::{Fault, contain};
use super::task::Boxed;
use super::{Message, Owner, send};
use crate::graph::{ActionId, Answer, EdgeId, Event, OutputId, Question, SaveKey};
use crate::{
    Domain, KeyDep, KeyId, Link, LinkQuery, NewKey, Parent, Record, ResultId, StoreError, derived_key,
    save_record,
};

impl<D: Domain> Owner<D> {
    pub(super) fn answer(&self, questions: Vec<Question>) -> Vec<Answer> {
        let links: Vec<_> = questions
            .iter()
            .filter_map(|question| match question {
                Question::Links(query) => Some(query.clone()),
                Question::Key(_) => None,
            })
            .collect();
        let mut links = match self.keys.query(&links) {
            Ok(answers) => answers,
            Err(error) => {
                warn_store(&error);
                Vec::new()
            }
        }
        .into_iter();
        let answers = questions.into_iter().map(|question| match question {
            Question::Links(_) => Answer::Links(links.next().unwrap_or_default()),
            Question::Key(key) => {
                let (exists, records) = self.look_up(&key).unwrap_or_else(|error| {
                    warn_store(&error);
                    (false, Vec::new())
                });
                Answer::Key(exists, records)
            }
        });
        answers.collect()
    }

    /// Whether a key exists, and its records that can be loaded; the others are forgotten.
    fn look_up(&self, key: &KeyId) -> Result<(bool, Vec<Record>), StoreError> {
        let mut records = self.keys.records(key)?;
        let mut lost = Vec::new();
        records.retain(|record| {
            let exists = self.results.exists(&record.result);
            if !exists {
                lost.push(record.result.clone());
            }
            exists
        });
        for result in lost {
            self.keys.release(&result)?;
        }
        let exists = !records.is_empty() || self.keys.exists(key)?;
        Ok((exists, records))
    }

    /// Lets parents lead to a key that was found by another way.
    pub(super) fn link(&self, query: LinkQuery, key: &KeyId) {
        for parent in query.parents {
            let link = Link {
                input: query.input,
                digest: query.digest.clone(),
                output: query.output,
                selector: parent.selector,
            };
            if let Err(error) = self.keys.add_link(&parent.key, &link, key) {
                warn_store(&error);
            }
        }
    }

    /// Forgets a result, unless it can still be loaded.
    pub(super) fn release_if_lost(&self, result: &ResultId) {
        if !self.results.exists(result)
            && let Err(error) = self.keys.release(result)
        {
            warn_store(&error);
        }
    }

    /// Saves a result. Once begun it goes on whoever leaves, so that no result is kept without a
    /// record of it.
    pub(super) fn save(&mut self, action: ActionId, edge: EdgeId, keys: Vec<SaveKey>, output: OutputId) {
        self.saving.insert(action, keys);
        let Some(output) = self.outputs.get(&output).cloned() else {
            let fault = Fault::Panic(format!("result of {edge:?} is gone"));
            let event = self.saved(action, Err(fault), SystemTime::UNIX_EPOCH);
            return self.backlog.push(event);
        };
        let (results, now) = (self.results.clone(), self.now());
        let mut work: Boxed<_> = Box::pin(contain::<D, _>(async move { results.save(&output, now).await }));
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => {
                let event = self.saved(action, result, now);
                self.backlog.push(event);
            }
            Poll::Pending => {
                let messages = self.messages.clone();
                buildkit_util_appcontext::detach("save a result", async move {
                    let result = work.await;
                    send(&messages, Message::Saved(action, result, now));
                });
            }
        }
    }

    pub(super) fn saved(
        &mut self,
        action: ActionId,
        result: Result<ResultId, Fault<D>>,
        created_at: SystemTime,
    ) -> Event {
        let Some(keys) = self.saving.remove(&action) else { return Event::Cancelled(action) };
        let record = match result {
            Ok(result) => Some(Record { result, created_at, priority: 0 }),
            Err(fault) => {
                let error = fault.text();
                tracing::warn!(error, "result cannot be saved to the cache");
                None
            }
        };
        let ids = keys.iter().map(|key| {
            let parents = key.deps.iter().map(|deps| {
                let parent =
                    |dep: &KeyDep| Parent { key: dep.key.id().clone(), selector: dep.selector.clone() };
                deps.iter().map(parent).collect()
            });
            let new = NewKey {
                digest: key.digest.clone(),
                output: key.output,
                parents: parents.collect(),
                preimage: key.preimage.clone(),
            };
            let Some(record) = &record else { return derived_key(&new) };
            save_record(&*self.keys, &new, record).unwrap_or_else(|error| {
                warn_store(&error);
                derived_key(&new)
            })
        });
        Event::Saved(action, ids.collect())
    }
}

fn warn_store(error: &StoreError) {
    let source: &dyn std::error::Error = &*error.source;
    tracing::warn!(%error, source, "cache key store failed, taken for a miss");
}
