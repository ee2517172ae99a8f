use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_snapshot::{ActiveKey, MergeInput, SnapshotName};
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::Descriptor;

use crate::layers::chain_of;
use crate::{Error, LayerBlob, RecordType, RefId, UsageRecord};

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
    /// What changes from the parent, as a layer.
    pub(crate) blob: Option<LayerBlob>,
    /// The same layer in other forms, by their names.
    pub(crate) variants: BTreeMap<String, Descriptor>,
}

impl Facts {
    /// All blobs that the record keeps.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let first = self.blob.iter().map(|blob| &blob.descriptor.digest);
        let first_digest = self.blob.as_ref().map(|blob| &blob.descriptor.digest);
        let others = self.variants.values().map(|variant| &variant.digest);
        first.chain(others.filter(move |digest| Some(*digest) != first_digest))
    }
}

impl Record {
    pub(crate) fn new(parents: Parents, state: State, facts: Facts, refs: u32) -> Self {
        Self { parents, state, facts, refs, children: 0, gate: Arc::default() }
    }

    /// Whether its files are somewhere.
    pub(crate) fn has_files(&self) -> bool {
        // Those of merges are made of other records, and not of a blob.
        !matches!((&self.state, &self.parents), (State::Lazy, Parents::Layer(_)))
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
    blobs: BlobIndex,
}

/// What records and others have to do with blobs.
#[derive(Debug, Default)]
struct BlobIndex {
    /// Records that keep a blob.
    named: HashMap<Digest, u32>,
    /// Handles that keep a blob.
    pinned: HashMap<Digest, u32>,
    /// Sizes of those in the store, as far as that is known.
    stored: HashMap<Digest, u64>,
}

fn less(counts: &mut HashMap<Digest, u32>, digest: &Digest) {
    if let Some(count) = counts.get_mut(digest) {
        *count -= 1;
        if *count == 0 {
            counts.remove(digest);
        }
    }
}

/// One layer of a tree, and the record that keeps its blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerUnit {
    pub(crate) owner: RefId,
    /// It is what changes from `lower` to `upper`.
    pub(crate) lower: Option<RefId>,
    pub(crate) upper: Option<RefId>,
}

impl BlobIndex {
    /// Counts the blobs that a record keeps now, instead of those that it kept before.
    fn recount(&mut self, before: &[Digest], record: &Record) {
        for digest in before {
            less(&mut self.named, digest);
        }
        for digest in record.facts.blobs() {
            *self.named.entry(digest.clone()).or_default() += 1;
        }
    }
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
    /// Records that were read, and blobs that are in the store.
    pub(crate) fn new(records: HashMap<RefId, Record>, stored: HashMap<Digest, u64>) -> Self {
        let mut blobs = BlobIndex { stored, ..BlobIndex::default() };
        for digest in records.values().flat_map(|record| record.facts.blobs()) {
            *blobs.named.entry(digest.clone()).or_default() += 1;
        }
        Self { records, blobs }
    }

    pub(crate) fn pin(&mut self, digest: &Digest) {
        *self.blobs.pinned.entry(digest.clone()).or_default() += 1;
    }

    pub(crate) fn unpin(&mut self, digest: &Digest) {
        less(&mut self.blobs.pinned, digest);
    }

    pub(crate) fn is_unused(&self, digest: &Digest) -> bool {
        !self.blobs.named.contains_key(digest) && !self.blobs.pinned.contains_key(digest)
    }

    pub(crate) fn is_stored(&self, digest: &Digest) -> bool {
        self.blobs.stored.contains_key(digest)
    }

    pub(crate) fn note_stored(&mut self, digest: &Digest, size: u64) {
        self.blobs.stored.insert(digest.clone(), size);
    }

    pub(crate) fn note_lost(&mut self, digest: &Digest) {
        self.blobs.stored.remove(digest);
    }

    /// Bytes of a record with the blobs that it keeps.
    pub(crate) fn size_of(&self, facts: &Facts) -> Option<u64> {
        let blobs: u64 = facts.blobs().filter_map(|digest| self.blobs.stored.get(digest)).sum();
        match (facts.size, &facts.blob) {
            (None, None) => None,
            (size, _) => Some(size.unwrap_or(0).saturating_add(blobs)),
        }
    }

    /// Gives a record a blob: its first, or the same layer in another form.
    pub(crate) fn add_blob(&mut self, id: &RefId, name: &str, blob: LayerBlob) -> Result<&Record, Error> {
        let record = self.records.get_mut(id).ok_or_else(|| Error::NotFound(id.clone()))?;
        let before: Vec<Digest> = record.facts.blobs().cloned().collect();
        record.facts.variants.insert(name.to_owned(), blob.descriptor.clone());
        record.facts.blob.get_or_insert(blob);
        self.blobs.recount(&before, record);
        Ok(record)
    }

    /// Takes all blobs from a record, because they are lost.
    pub(crate) fn forget_blobs(&mut self, id: &RefId) -> Result<&Record, Error> {
        let record = self.records.get_mut(id).ok_or_else(|| Error::NotFound(id.clone()))?;
        let before: Vec<Digest> = record.facts.blobs().cloned().collect();
        record.facts.blob = None;
        record.facts.variants.clear();
        self.blobs.recount(&before, record);
        Ok(record)
    }

    /// The layers of a tree, lowest first. A difference between two trees of which one begins with all layers of
    /// the other is the layers that follow, deletions of what neither shows included.
    pub(crate) fn layer_units(&self, id: &RefId) -> Result<Vec<LayerUnit>, Error> {
        let mut known: HashMap<RefId, Arc<[LayerUnit]>> = HashMap::new();
        // Without recursion, because graphs are as deep as clients want. What is needed first is on top.
        let mut pending = vec![id.clone()];
        while let Some(id) = pending.last().cloned() {
            let missing: Vec<RefId> = match &self.get(&id)?.parents {
                Parents::Layer(_) => self.below_layers(&id)?.1.into_iter().collect(),
                parents => parents.ids().into_iter().cloned().collect(),
            };
            let missing: Vec<RefId> = missing.into_iter().filter(|id| !known.contains_key(id)).collect();
            if !missing.is_empty() {
                pending.extend(missing);
                continue;
            }
            pending.pop();
            if !known.contains_key(&id) {
                let units = self.units_of(&id, &known)?;
                known.insert(id, units.into());
            }
        }
        Ok(known.get(id).map(|units| units.to_vec()).unwrap_or_default())
    }

    /// The layers of a record whose parents' layers are known.
    fn units_of(
        &self,
        id: &RefId,
        known: &HashMap<RefId, Arc<[LayerUnit]>>,
    ) -> Result<Vec<LayerUnit>, Error> {
        let of = |id: &RefId| known.get(id).map_or(&[][..], |units| &units[..]);
        Ok(match &self.get(id)?.parents {
            Parents::Layer(_) => {
                let (layers, below) = self.below_layers(id)?;
                let mut units = below.as_ref().map_or_else(Vec::new, |below| of(below).to_vec());
                units.extend(layers);
                units
            }
            Parents::Merge(parents) => parents.iter().flat_map(|parent| of(parent).iter().cloned()).collect(),
            Parents::Diff { lower, upper } => {
                let sides = lower.as_ref().zip(upper.as_ref()).map(|(lower, upper)| (of(lower), of(upper)));
                match sides.and_then(|(lower, upper)| upper.strip_prefix(lower)) {
                    Some(rest) if !rest.is_empty() => rest.to_vec(),
                    _ => vec![LayerUnit { owner: id.clone(), lower: lower.clone(), upper: upper.clone() }],
                }
            }
        })
    }

    /// The layers down from a record that lie on each other, lowest first, and the tree of another kind that they
    /// lie on.
    fn below_layers(&self, id: &RefId) -> Result<(Vec<LayerUnit>, Option<RefId>), Error> {
        let (mut layers, mut at) = (Vec::new(), Some(id.clone()));
        while let Some(id) = at.clone() {
            let Parents::Layer(parent) = &self.get(&id)?.parents else { break };
            layers.push(LayerUnit { owner: id.clone(), lower: parent.clone(), upper: Some(id) });
            at.clone_from(parent);
        }
        layers.reverse();
        Ok((layers, at))
    }

    /// What identifies the blobs that a tree is made of; a tree that has not all of them stands for itself.
    pub(crate) fn blob_chain(&self, id: &RefId) -> Result<Digest, Error> {
        let mut chain = None;
        for unit in self.layer_units(id)? {
            match &self.get(&unit.owner)?.facts.blob {
                Some(blob) => chain = Some(chain_of(chain.as_ref(), blob)),
                None => chain = Some(Digest::sha256(format!("{:?} {}", chain, unit.owner))),
            }
        }
        Ok(chain.unwrap_or_else(|| Digest::sha256("")))
    }

    /// Blobs that a tree needs for its files, and that are not in the store.
    pub(crate) fn missing_blobs(&self, id: &RefId) -> Vec<Digest> {
        let (mut missing, mut pending) = (Vec::new(), vec![id]);
        let mut seen = std::collections::HashSet::new();
        while let Some(id) = pending.pop() {
            let Some(record) = self.records.get(id).filter(|_| seen.insert(id)) else { continue };
            if !matches!(record.state, State::Lazy) {
                continue;
            }
            pending.extend(record.parents.ids());
            if let Parents::Layer(_) = &record.parents {
                let digest = record.facts.blob.as_ref().map(|blob| &blob.descriptor.digest);
                missing.extend(digest.filter(|digest| !self.is_stored(digest)).cloned());
            }
        }
        missing
    }

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
        self.blobs.recount(&[], &record);
        self.records.insert(id, record);
        Ok(())
    }

    /// Takes a record out, whatever holds it.
    pub(crate) fn take(&mut self, id: &RefId) -> Option<Record> {
        let record = self.records.remove(id)?;
        for digest in record.facts.blobs() {
            less(&mut self.blobs.named, digest);
        }
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

    /// What a merge or a difference is made of, bottom first: its layers. A record whose files are needed and are
    /// nowhere yet is returned as error.
    pub(crate) fn merge_inputs(&self, id: &RefId) -> Result<Vec<MergeInput>, Blocked> {
        let units = self.layer_units(id).map_err(Blocked::Failed)?;
        let snapshot = |id: &RefId| self.snapshot(id);
        let inputs = units.iter().map(|unit| {
            Ok(MergeInput {
                lower: unit.lower.as_ref().map(snapshot).transpose()?,
                upper: unit.upper.as_ref().map(snapshot).transpose()?,
            })
        });
        inputs.collect()
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
                let size =
                    if mutable && record.refs > 0 { 0 } else { self.size_of(&record.facts).unwrap_or(0) };
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
