//! What ops and jobs share about one active vertex.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::{Bus, Event, Vertex, VertexStatus};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::api::OpShared;
use crate::graph::JobKey;
use crate::{CacheMap, Domain, Op, VertexSpec};

/// A vertex while some jobs want it.
pub(crate) struct ActiveVertex<D: Domain> {
    pub(crate) spec: Arc<VertexSpec<D>>,
    state: Mutex<State<D>>,
}

struct State<D: Domain> {
    payload: Arc<D::Vertex>,
    op: Option<Result<Arc<dyn Op<D>>, D::Error>>,
    maps: SmallVec<[Arc<CacheMap<D>>; 1]>,
    jobs: SmallVec<[Member<D>; 1]>,
    /// How the vertex stands, for jobs that come late.
    status: Status,
    /// Has what the op published, for the same, if no job is there that has it.
    left: Option<Bus>,
    /// Parts that go on although the vertex has completed.
    late: LateParts,
    /// Vertices whose results come from this one.
    mirrors: Vec<Arc<ActiveVertex<D>>>,
}

impl<D: Domain> State<D> {
    /// A bus that has all that the op published.
    fn known(&self) -> Option<&Bus> {
        self.left.as_ref().or_else(|| self.jobs.first().map(|member| &member.bus))
    }

    /// Keeps an event that no job takes, for those that come later.
    fn keep(&mut self, vertex: &Digest, event: Event) {
        if self.left.as_ref().is_none_or(Bus::is_closed) {
            let bus = Bus::new();
            let past = self.known().map(|known| known.past(vertex));
            past.into_iter().flatten().for_each(|event| bus.publish(event));
            self.left = Some(bus);
        }
        if let Some(bus) = &self.left {
            bus.publish(event);
        }
    }
}

struct Member<D: Domain> {
    key: JobKey,
    data: Arc<D::Job>,
    bus: Bus,
}

/// How a vertex stands, for those who watch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) started: Option<SystemTime>,
    pub(crate) completed: Option<SystemTime>,
    pub(crate) cached: bool,
    pub(crate) error: String,
}

/// Parts of a vertex that go on after it has completed, by id: what a lazy result still does for those who need its
/// files. While there are some, the vertex is shown as running.
#[derive(Default)]
struct LateParts(HashSet<String>);

impl LateParts {
    /// Takes note of a change of a part; how the vertex is shown from now on, if that changes too.
    fn note(&mut self, part: &VertexStatus) -> Option<Status> {
        let was_running = !self.0.is_empty();
        match part.completed {
            None => self.0.insert(part.id.clone()),
            Some(_) => self.0.remove(&part.id),
        };
        (was_running == self.0.is_empty()).then(|| Status {
            started: part.started,
            completed: part.completed,
            ..Status::default()
        })
    }
}

impl<D: Domain> ActiveVertex<D> {
    pub(crate) fn new(spec: Arc<VertexSpec<D>>) -> Self {
        let payload = spec.payload.clone();
        let state = State {
            payload,
            op: None,
            maps: SmallVec::new(),
            jobs: SmallVec::new(),
            status: Status::default(),
            left: None,
            late: LateParts::default(),
            mirrors: Vec::new(),
        };
        Self { spec, state: Mutex::new(state) }
    }

    /// Takes over what another load of the vertex knows.
    pub(crate) fn merge(&self, domain: &D, loaded: &VertexSpec<D>) {
        let mut state = self.state.lock();
        if !Arc::ptr_eq(&state.payload, &loaded.payload)
            && let Some(merged) = domain.merge_vertex(&state.payload, &loaded.payload)
        {
            state.payload = merged;
        }
    }

    /// The op of the vertex, made at its first use.
    pub(crate) fn op(&self, domain: &D) -> Result<Arc<dyn Op<D>>, D::Error> {
        if let Some(op) = &self.state.lock().op {
            return op.clone();
        }
        // Made without the lock: it may ask for the payload. Work on a vertex that needs its op comes
        // one after another, so nobody makes it twice.
        let op = domain.resolve_op(&self.spec);
        self.state.lock().op = Some(op.clone());
        op
    }

    pub(crate) fn add_map(&self, map: CacheMap<D>) {
        self.state.lock().maps.push(Arc::new(map));
    }

    pub(crate) fn first_map(&self) -> Option<Arc<CacheMap<D>>> {
        self.state.lock().maps.first().cloned()
    }

    /// Lets a job watch from now on, after having told it what was.
    pub(crate) fn join(&self, key: JobKey, data: Arc<D::Job>, bus: Bus) {
        let mut state = self.state.lock();
        bus.publish(Event::Vertex(self.vertex(&state.status)));
        // Every job has been told everything, so one of them is enough.
        if let Some(known) = state.known()
            && !state.jobs.iter().any(|member| member.bus.is_same(&bus))
        {
            known.past(&self.spec.id.0).into_iter().for_each(|event| bus.publish(event));
        }
        state.left = None;
        state.jobs.push(Member { key, data, bus });
    }

    pub(crate) fn leave(&self, key: JobKey) {
        let mut state = self.state.lock();
        let Some(at) = state.jobs.iter().position(|member| member.key == key) else { return };
        let member = state.jobs.remove(at);
        if state.jobs.is_empty() {
            state.left.get_or_insert(member.bus);
        }
    }

    /// The job that has wanted the vertex longest.
    pub(crate) fn oldest_job(&self) -> Option<JobKey> {
        self.state.lock().jobs.first().map(|member| member.key)
    }

    /// Whether a job wants the vertex.
    pub(crate) fn is_wanted_by(&self, key: JobKey) -> bool {
        self.state.lock().jobs.iter().any(|member| member.key == key)
    }

    pub(crate) fn mirror(&self, other: Arc<Self>) {
        self.state.lock().mirrors.push(other);
    }

    pub(crate) fn show(&self, status: &Status) {
        let mirrors = {
            let mut state = self.state.lock();
            state.status = status.clone();
            let event = Event::Vertex(self.vertex(status));
            for member in &state.jobs {
                member.bus.publish(event.clone());
            }
            state.mirrors.clone()
        };
        for mirror in mirrors {
            mirror.show(&Status { cached: status.error.is_empty(), ..status.clone() });
        }
    }

    fn vertex(&self, status: &Status) -> Vertex {
        Vertex {
            digest: self.spec.id.0.clone(),
            inputs: self.spec.inputs.iter().map(|input| input.vertex.0.clone()).collect(),
            name: self.spec.name.clone(),
            started: status.started,
            completed: status.completed,
            cached: status.cached,
            error: status.error.clone(),
            progress_group: self.spec.progress_group.clone(),
        }
    }
}

impl<D: Domain> OpShared<D> for ActiveVertex<D> {
    fn jobs(&self) -> Vec<Arc<D::Job>> {
        self.state.lock().jobs.iter().map(|member| member.data.clone()).collect()
    }

    fn publish(&self, event: Event) {
        let mut state = self.state.lock();
        let reopened = match &event {
            Event::Status(part) if state.status.completed.is_some() => state.late.note(part),
            _ => None,
        };
        let reopened = reopened.map(|status| Event::Vertex(self.vertex(&status)));
        // It begins before its parts and ends after them.
        let (first, second) = match &event {
            Event::Status(part) if part.completed.is_some() => (Some(&event), reopened.as_ref()),
            _ => (reopened.as_ref(), Some(&event)),
        };
        for event in first.into_iter().chain(second) {
            for member in &state.jobs {
                member.bus.publish(event.clone());
            }
        }
        // The bus of a job that is over takes nothing more.
        if state.jobs.iter().all(|member| member.bus.is_closed()) {
            state.keep(&self.spec.id.0, event);
        }
    }

    fn payload(&self) -> Arc<D::Vertex> {
        self.state.lock().payload.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vertex_runs_while_its_late_parts_do() {
        let now = SystemTime::now();
        let part = |id: &str, is_done: bool| VertexStatus {
            id: id.to_owned(),
            vertex: Digest::sha256(b""),
            name: String::new(),
            total: 0,
            current: 0,
            timestamp: now,
            started: Some(now),
            completed: is_done.then_some(now),
        };
        let mut late = LateParts::default();
        // The end of what began in time says nothing.
        assert!(late.note(&part("early", true)).is_none());
        assert!(late.note(&part("a", false)).is_some_and(|shown| shown.completed.is_none()));
        for (id, is_done) in [("a", false), ("b", false), ("a", true), ("a", true)] {
            assert!(late.note(&part(id, is_done)).is_none(), "{id}");
        }
        assert!(late.note(&part("b", true)).is_some_and(|shown| shown.completed.is_some()));
        assert!(late.note(&part("c", false)).is_some_and(|shown| shown.completed.is_none()));
    }
}
