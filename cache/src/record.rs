use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_snapshot::{ActiveKey, MergeInput, SnapshotName};

use crate::{Error, RecordType, RefId, UsageRecord};

/// What a record is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parents {
    /// Changes on top of another record, or of nothing.
    Layer(Option<RefId>),
    /// Records laid over each other, in order.
    Merge(Vec<RefId>),
    /// What changes from one to the other.
    Diff { lower: Option<RefId>, upper: Option<RefId> },
}

impl Parents {
    pub(crate) fn ids(&self) -> Vec<&RefId> {
        match self {
            Self::Layer(parent) => parent.iter().collect(),
            Self::Merge(parents) => parents.iter().collect(),
            Self::Diff { lower, upper } => lower.iter().chain(upper).collect(),
        }
    }
}

/// Where the files of a record are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In an active snapshot. `sealed` is the record that shows the same files unchanged.
    Mutable { key: ActiveKey, sealed: Option<RefId> },
    /// In the active snapshot of the record `of`, which nobody may change as long as this record is
    /// held. Either it gets a snapshot of its own, or `of` is opened again and this record ends.
    Sealed { of: RefId },
    /// Nowhere yet.
    Lazy,
    /// In a committed snapshot.
    Ready { snapshot: SnapshotName },
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) parents: Parents,
    pub(crate) state: State,
    pub(crate) facts: Facts,
    /// Handles that hold it.
    pub(crate) refs: u32,
    /// Records made of it.
    pub(crate) children: u32,
    /// Gate: held while the files get their place, by whoever does it for all.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
}

/// What is known about a record besides its files.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) description: String,
    pub(crate) record_type: RecordType,
    /// A mutable record stays when it is released.
    pub(crate) retain: bool,
    pub(crate) created_at: SystemTime,
    pub(crate) last_used_at: Option<SystemTime>,
    pub(crate) usage_count: u64,
    /// Bytes on disk, once measured.
    pub(crate) size: Option<u64>,
    pub(crate) indexes: BTreeSet<String>,
}

impl Record {
    pub(crate) fn new(parents: Parents, state: State, facts: Facts, refs: u32) -> Self {
        Self { parents, state, facts, refs, children: 0, gate: Arc::default() }
    }

    /// Whether it is worth a place in the database: a mutable record that is not retained ends with
    /// its process.
    pub(crate) fn is_persistent(&self) -> bool {
        self.facts.retain || !matches!(self.state, State::Mutable { .. })
    }
}

/// All records. Pure: no I/O, no clock.
///
/// Invariants: the parents of a record exist; `children` counts the records that name one as parent;
/// a mutable record and its sealed twin name each other.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) records: HashMap<RefId, Record>,
}

/// What the release of a handle leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// Others hold the record.
    Held,
    /// Nobody holds it; these records have new facts.
    Changed(Vec<RefId>),
    /// The record is gone, and its active snapshot must go.
    Gone(ActiveKey),
}

impl Graph {
    pub(crate) fn get(&self, id: &RefId) -> Result<&Record, Error> {
        self.records.get(id).ok_or_else(|| Error::NotFound(id.clone()))
    }

    pub(crate) fn get_mut(&mut self, id: &RefId) -> Result<&mut Record, Error> {
        self.records.get_mut(id).ok_or_else(|| Error::NotFound(id.clone()))
    }

    /// Adds a record on existing parents.
    pub(crate) fn insert(&mut self, id: RefId, record: Record) -> Result<(), Error> {
        let parents: Vec<RefId> = record.parents.ids().into_iter().cloned().collect();
        for parent in &parents {
            self.get(parent)?;
        }
        for parent in &parents {
            self.get_mut(parent)?.children += 1;
        }
        self.records.insert(id, record);
        Ok(())
    }

    /// Takes a record out, whatever holds it.
    pub(crate) fn take(&mut self, id: &RefId) -> Option<Record> {
        let record = self.records.remove(id)?;
        for parent in record.parents.ids() {
            if let Some(parent) = self.records.get_mut(parent) {
                parent.children = parent.children.saturating_sub(1);
            }
        }
        Some(record)
    }

    /// Takes a handle on a record that does not change.
    pub(crate) fn acquire(&mut self, id: &RefId) -> Result<(), Error> {
        self.get_mut(id)?.refs += 1;
        Ok(())
    }

    /// Takes the only handle on a mutable record. Its sealed twin, if nobody needs it, ends; its id
    /// is returned.
    pub(crate) fn acquire_mutable(&mut self, id: &RefId) -> Result<Option<RefId>, Error> {
        let record = self.get(id)?;
        let State::Mutable { sealed, .. } = &record.state else { return Err(Error::NotMutable(id.clone())) };
        if record.refs > 0 {
            return Err(Error::Locked(id.clone()));
        }
        let sealed = sealed.clone();
        if let Some(twin) = &sealed {
            match self.records.get(twin) {
                Some(twin) if twin.refs > 0 || twin.children > 0 => return Err(Error::Locked(id.clone())),
                _ => drop(self.take(twin)),
            }
        }
        let record = self.get_mut(id)?;
        record.refs = 1;
        record.facts.size = None;
        if let State::Mutable { sealed, .. } = &mut record.state {
            *sealed = None;
        }
        Ok(sealed)
    }

    pub(crate) fn release(&mut self, id: &RefId, now: SystemTime) -> Released {
        let Some(record) = self.records.get_mut(id) else { return Released::Held };
        record.refs = record.refs.saturating_sub(1);
        if record.refs > 0 {
            return Released::Held;
        }
        if let State::Mutable { key, sealed: None } = &record.state
            && !record.facts.retain
        {
            let key = key.clone();
            self.take(id);
            return Released::Gone(key);
        }
        let mut changed = vec![id.clone()];
        if let State::Sealed { of } = &record.state {
            changed.push(of.clone());
        }
        for id in &changed {
            if let Some(record) = self.records.get_mut(id) {
                record.facts.last_used_at = Some(now);
                record.facts.usage_count += 1;
            }
        }
        Released::Changed(changed)
    }

    /// What a record adds to a merge, bottom first: its layers, or those of what it merges.
    /// A record whose files are needed and are nowhere yet is returned as error.
    pub(crate) fn merge_inputs(&self, id: &RefId) -> Result<Vec<MergeInput>, Blocked> {
        enum Work {
            Visit(RefId),
            Push(MergeInput),
        }
        let mut out = Vec::new();
        let mut work = vec![Work::Visit(id.clone())];
        while let Some(next) = work.pop() {
            let id = match next {
                Work::Visit(id) => id,
                Work::Push(input) => {
                    out.push(input);
                    continue;
                }
            };
            let record = self.get(&id).map_err(Blocked::Failed)?;
            match &record.parents {
                Parents::Layer(parent) => {
                    let lower = parent.as_ref().map(|parent| self.snapshot(parent)).transpose()?;
                    work.push(Work::Push(MergeInput { lower, upper: Some(self.snapshot(&id)?) }));
                    work.extend(parent.clone().map(Work::Visit));
                }
                Parents::Merge(parents) => work.extend(parents.iter().rev().cloned().map(Work::Visit)),
                Parents::Diff { lower, upper } => {
                    for input in self.diff_inputs(lower.as_ref(), upper.as_ref())?.into_iter().rev() {
                        work.push(Work::Push(input));
                    }
                }
            }
        }
        Ok(out)
    }

    /// A difference whose lower side is below its upper side is the layers between them, so that
    /// they are used as they are. Others are compared.
    fn diff_inputs(&self, lower: Option<&RefId>, upper: Option<&RefId>) -> Result<Vec<MergeInput>, Blocked> {
        if let (Some(lower), Some(upper)) = (lower, upper) {
            let mut between = Vec::new();
            let mut at = upper.clone();
            while at != *lower {
                match &self.get(&at).map_err(Blocked::Failed)?.parents {
                    Parents::Layer(Some(parent)) => {
                        between.push(MergeInput {
                            lower: Some(self.snapshot(parent)?),
                            upper: Some(self.snapshot(&at)?),
                        });
                        at = parent.clone();
                    }
                    _ => break,
                }
            }
            if at == *lower {
                between.reverse();
                return Ok(between);
            }
        }
        let snapshot = |id: &RefId| self.snapshot(id);
        Ok(vec![MergeInput {
            lower: lower.map(snapshot).transpose()?,
            upper: upper.map(snapshot).transpose()?,
        }])
    }

    fn snapshot(&self, id: &RefId) -> Result<SnapshotName, Blocked> {
        match &self.get(id).map_err(Blocked::Failed)?.state {
            State::Ready { snapshot } => Ok(snapshot.clone()),
            _ => Err(Blocked::On(id.clone())),
        }
    }

    /// All records for people and for the collector. Of a mutable record and its sealed twin one is
    /// listed: the twin while it is held.
    pub(crate) fn usage(&self) -> Vec<UsageRecord> {
        let shown = |record: &Record| match &record.state {
            State::Mutable { sealed: Some(twin), .. } => {
                self.records.get(twin).is_none_or(|twin| twin.refs == 0 && twin.children == 0)
            }
            State::Sealed { .. } => record.refs > 0 || record.children > 0,
            _ => true,
        };
        let in_use = self.in_use();
        self.records
            .iter()
            .filter(|(_, record)| shown(record))
            .map(|(id, record)| {
                let mutable = matches!(record.state, State::Mutable { .. });
                // What is being written has no size yet.
                let size = if mutable && record.refs > 0 { 0 } else { record.facts.size.unwrap_or(0) };
                UsageRecord {
                    id: id.clone(),
                    mutable,
                    in_use: in_use.contains(id),
                    size: i64::try_from(size).unwrap_or(i64::MAX),
                    created_at: record.facts.created_at,
                    last_used_at: record.facts.last_used_at,
                    usage_count: record.facts.usage_count,
                    parents: record.parents.ids().into_iter().cloned().collect(),
                    description: record.facts.description.clone(),
                    record_type: record.facts.record_type,
                    shared: false,
                }
            })
            .collect()
    }

    /// Records that are held, and all that they are made of.
    fn in_use(&self) -> std::collections::HashSet<RefId> {
        let mut found = std::collections::HashSet::new();
        let mut pending: Vec<&RefId> =
            self.records.iter().filter(|(_, record)| record.refs > 0).map(|(id, _)| id).collect();
        while let Some(id) = pending.pop() {
            if found.insert(id.clone())
                && let Some(record) = self.records.get(id)
            {
                pending.extend(record.parents.ids());
            }
        }
        found
    }

    /// Takes a record that nobody holds out, with its sealed twin. `None` if somebody does.
    pub(crate) fn take_unused(&mut self, id: &RefId) -> Option<Vec<(RefId, Record)>> {
        let record = self.records.get(id)?;
        if record.refs > 0 || record.children > 0 {
            return None;
        }
        let twin = match &record.state {
            State::Mutable { sealed, .. } => sealed.clone(),
            State::Sealed { of } => Some(of.clone()),
            _ => None,
        };
        let twin = twin.filter(|twin| self.records.contains_key(twin));
        if let Some(twin) = twin.as_ref().and_then(|twin| self.records.get(twin))
            && (twin.refs > 0 || twin.children > 0)
        {
            return None;
        }
        let ids = std::iter::once(id.clone()).chain(twin);
        Some(ids.filter_map(|id| self.take(&id).map(|record| (id, record))).collect())
    }
}

/// Why the inputs of a merge are not known.
#[derive(Debug)]
pub(crate) enum Blocked {
    /// The files of this record are nowhere yet.
    On(RefId),
    Failed(Error),
}
