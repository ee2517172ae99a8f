//! The stores of keys and results: questions, saves, releases.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use super::fault::{Fault, contain};
use super::task::Boxed;
use super::{Message, Owner, send};
use crate::graph::{ActionId, Answer, EdgeId, Event, NodeId, OutputId, Question, SaveKey};
use crate::{
    Domain, KeyDep, KeyId, KeySource, Link, LinkQuery, NewKey, Parent, Record, ResultId, StoreError,
    derived_key, save_record,
};

impl<D: Domain> Owner<D> {
    /// Answers from the store, and from what the jobs that want a node look into besides.
    pub(super) fn answer(&self, questions: Vec<(NodeId, Question)>) -> Vec<Answer> {
        let links: Vec<_> = questions.iter().filter_map(|(_, question)| query_of(question)).collect();
        let mut links = query(&*self.keys, &links).into_iter();
        let mut answers: Vec<Answer> = questions
            .iter()
            .map(|(_, question)| match question {
                Question::Links(_) => Answer::Links(links.next().unwrap_or_default()),
                Question::Key(key) => {
                    let (exists, records) = or_missed(self.look_up(key));
                    Answer::Key(exists, records)
                }
            })
            .collect();
        // Most jobs have none, and then it costs nothing.
        let sources = self.jobs.iter().map(|(job, (data, _))| (*job, self.domain.key_sources(data)));
        let mut sources: Vec<_> = sources.filter(|(_, sources)| !sources.is_empty()).collect();
        sources.sort_by_key(|(job, _)| *job);
        for (job, sources) in sources {
            let is_asked =
                |node: &NodeId| self.vertices.get(node).is_some_and(|vertex| vertex.is_wanted_by(job));
            let asked: Vec<_> =
                questions.iter().zip(&mut answers).filter(|((node, _), _)| is_asked(node)).collect();
            self.add_answers(&sources, asked);
        }
        answers
    }

    /// Adds what is known elsewhere to the answers of the store.
    fn add_answers(
        &self,
        sources: &[Arc<dyn KeySource>],
        mut asked: Vec<(&(NodeId, Question), &mut Answer)>,
    ) {
        let links: Vec<_> = asked.iter().filter_map(|((_, question), _)| query_of(question)).collect();
        for source in sources {
            let mut links = query(&**source, &links).into_iter();
            for ((_, question), answer) in &mut asked {
                match (question, &mut **answer) {
                    (Question::Links(_), Answer::Links(found)) => {
                        let more = links.next().unwrap_or_default();
                        found.resize_with(found.len().max(more.len()), Vec::new);
                        for (keys, more) in found.iter_mut().zip(more) {
                            for key in more {
                                if !keys.contains(&key) {
                                    keys.push(key);
                                }
                            }
                        }
                    }
                    (Question::Key(key), Answer::Key(exists, records)) => {
                        let found = or_missed(source.records(key));
                        records.extend(found.into_iter().filter(|found| self.results.exists(&found.result)));
                        *exists = *exists || !records.is_empty() || or_missed(source.exists(key));
                    }
                    _ => {}
                }
            }
        }
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

fn query_of(question: &Question) -> Option<LinkQuery> {
    match question {
        Question::Links(query) => Some(query.clone()),
        Question::Key(_) => None,
    }
}

fn query(source: &dyn KeySource, links: &[LinkQuery]) -> Vec<Vec<Vec<KeyId>>> {
    or_missed(source.query(links))
}

/// What a store that fails has is not found.
fn or_missed<T: Default>(answer: Result<T, StoreError>) -> T {
    answer.unwrap_or_else(|error| {
        warn_store(&error);
        T::default()
    })
}

fn warn_store(error: &StoreError) {
    let source: &dyn std::error::Error = &*error.source;
    tracing::warn!(%error, source, "cache key store failed, taken for a miss");
}
