//! Where the files of records are, and how they get there.

use std::sync::Arc;

use buildkit_cache_metadata::Batch;
use buildkit_snapshot::{ActiveKey, AnySnapshot, Mount, MountGuard, SnapshotName};
use buildkit_util_appcontext::spawn_blocking;

use crate::manager::{Inner, uncancelled};
use crate::record::{Blocked, Facts, Parents, Record, State};
use crate::refs::Handle;
use crate::{Error, ImmutableRef, MutableRef, RefId, store};

impl Inner {
    pub(crate) async fn commit(self: &Arc<Self>, mutable: MutableRef) -> Result<ImmutableRef, Error> {
        let inner = self.clone();
        uncancelled("commit a cache record", async move {
            let id = mutable.id().clone();
            let (key, retain) = {
                let graph = inner.graph.lock();
                let record = graph.get(&id)?;
                let State::Mutable { key, .. } = &record.state else {
                    return Err(Error::NotMutable(id.clone()));
                };
                (key.clone(), record.facts.retain)
            };
            if retain { inner.seal(mutable, &key).await } else { inner.commit_snapshot(mutable, &key).await }
        })
        .await
    }

    async fn commit_snapshot(
        self: &Arc<Self>,
        mutable: MutableRef,
        key: &ActiveKey,
    ) -> Result<ImmutableRef, Error> {
        let snapshot = SnapshotName(mutable.id().as_str().to_owned());
        let usage = self
            .snapshotter
            .commit(&snapshot, key)
            .await
            .map_err(Error::snapshot(format!("commit cache record `{}`", mutable.id())))?;
        self.update(mutable.id(), |record| {
            record.state = State::Ready { snapshot };
            record.facts.size = Some(usage.size);
        })?;
        Ok(ImmutableRef { handle: Arc::new(mutable.handle) })
    }

    /// Makes a record that shows the files of a retained one, which stays.
    async fn seal(self: &Arc<Self>, mutable: MutableRef, key: &ActiveKey) -> Result<ImmutableRef, Error> {
        let usage = self
            .snapshotter
            .active_usage(key)
            .await
            .map_err(Error::snapshot(format!("measure cache record `{}`", mutable.id())))?;
        let of = mutable.id().clone();
        let id = RefId::random();
        let mut batch = Batch::new();
        let mut graph = self.graph.lock();
        let record = graph.get_mut(&of)?;
        record.facts.size = Some(usage.size);
        if let State::Mutable { sealed, .. } = &mut record.state {
            *sealed = Some(id.clone());
        }
        let facts = Facts {
            retain: false,
            created_at: (self.clock)(),
            last_used_at: None,
            usage_count: 0,
            indexes: Default::default(),
            blob: None,
            variants: Default::default(),
            ..record.facts.clone()
        };
        let twin = Record::new(record.parents.clone(), State::Sealed { of: of.clone() }, facts, 1);
        store::put(&mut batch, &of, record);
        store::put(&mut batch, &id, &twin);
        graph.insert(id.clone(), twin)?;
        let applied = self.apply("store a cache record", batch);
        // Both handles take the lock when they are dropped.
        drop(graph);
        let sealed = self.immutable(id);
        drop(mutable);
        applied?;
        Ok(sealed)
    }

    /// Gives a sealed record a snapshot of its own; others are left as they are.
    pub(crate) async fn finalize(self: &Arc<Self>, id: &RefId) -> Result<(), Error> {
        let sealed = matches!(self.graph.lock().get(id)?.state, State::Sealed { .. });
        if sealed { self.materialize(id).await.map(drop) } else { Ok(()) }
    }

    /// The committed snapshot of a record that is held; makes it first, once for all who ask. What is
    /// fetched for that is given up when nobody asks any more; what is made of files here comes to its end.
    pub(crate) async fn materialize(self: &Arc<Self>, id: &RefId) -> Result<SnapshotName, Error> {
        let handle = {
            let mut graph = self.graph.lock();
            if let State::Ready { snapshot } = &graph.get(id)?.state {
                return Ok(snapshot.clone());
            }
            // Whoever asked may let go of it meanwhile.
            graph.acquire(id)?;
            Handle { inner: self.clone(), id: id.clone() }
        };
        loop {
            let blocked = {
                let graph = self.graph.lock();
                let record = graph.get(id)?;
                match (&record.state, &record.parents) {
                    (State::Lazy, Parents::Layer(_)) => None,
                    (State::Lazy, _) => Some(graph.merge_inputs(id)),
                    _ => Some(Ok(Vec::new())),
                }
            };
            match blocked {
                None => return self.unpack(id).await,
                Some(Ok(_)) => break,
                Some(Err(Blocked::On(other))) if other != *id => {
                    Box::pin(self.materialize(&other)).await?;
                }
                Some(Err(Blocked::On(_))) => return Err(Error::NotFound(id.clone())),
                Some(Err(Blocked::Failed(error))) => return Err(error),
            }
        }
        let (inner, id) = (self.clone(), id.clone());
        uncancelled("make the files of a cache record", async move {
            let _handle = handle;
            inner.materialize_now(&id).await
        })
        .await
    }

    async fn materialize_now(self: &Arc<Self>, id: &RefId) -> Result<SnapshotName, Error> {
        let gate = self.graph.lock().get(id)?.gate.clone();
        let _gate = gate.lock().await;
        let state = self.graph.lock().get(id)?.state.clone();
        let snapshot = SnapshotName(id.as_str().to_owned());
        let usage = match state {
            State::Ready { snapshot } => return Ok(snapshot),
            State::Mutable { .. } => return Err(Error::Locked(id.clone())),
            State::Sealed { of } => {
                let key = match &self.graph.lock().get(&of)?.state {
                    State::Mutable { key, .. } => key.clone(),
                    _ => return Err(Error::NotMutable(of.clone())),
                };
                let usage = self
                    .snapshotter
                    .commit(&snapshot, &key)
                    .await
                    .map_err(Error::snapshot(format!("commit cache record `{id}`")))?;
                self.end_twin(&of)?;
                usage
            }
            State::Lazy => {
                // What it is made of has its files by now.
                let inputs = self.graph.lock().merge_inputs(id).map_err(|blocked| match blocked {
                    Blocked::On(other) => Error::NotFound(other),
                    Blocked::Failed(error) => error,
                })?;
                self.snapshotter
                    .merge(&snapshot, &inputs)
                    .await
                    .map_err(Error::snapshot(format!("make the files of cache record `{id}`")))?
            }
        };
        self.update(id, |record| {
            record.state = State::Ready { snapshot: snapshot.clone() };
            record.facts.size = Some(usage.size);
        })?;
        Ok(snapshot)
    }

    /// Ends a mutable record whose snapshot was committed for its sealed twin.
    fn end_twin(&self, of: &RefId) -> Result<(), Error> {
        let mut batch = Batch::new();
        let mut graph = self.graph.lock();
        let record = graph.take(of);
        self.forget(&mut batch, of, record.as_ref());
        self.apply("remove a cache record", batch)
    }

    /// How to mount a record that is held.
    pub(crate) async fn view(self: &Arc<Self>, handle: &Handle) -> Result<Mount, Error> {
        let id = &handle.id;
        let failed = || Error::snapshot(format!("mount cache record `{id}`"));
        let state = self.graph.lock().get(id)?.state.clone();
        match state {
            State::Mutable { key, .. } => self.snapshotter.mounts(&key).await.map_err(failed()),
            State::Sealed { of } => {
                let key = match &self.graph.lock().get(&of)?.state {
                    State::Mutable { key, .. } => Some(key.clone()),
                    _ => None,
                };
                if let Some(key) = key
                    && let Ok(mount) = self.snapshotter.mounts(&key).await
                {
                    return Ok(Mount { readonly: true, ..mount });
                }
                // It got a snapshot of its own meanwhile.
                let snapshot = self.materialize(id).await?;
                self.snapshotter.view(&snapshot).await.map_err(failed())
            }
            State::Lazy | State::Ready { .. } => {
                let snapshot = self.materialize(id).await?;
                self.snapshotter.view(&snapshot).await.map_err(failed())
            }
        }
    }

    /// Allows files of a record to be linked into one that is being changed, if both have snapshots.
    pub(crate) async fn entwine(&self, id: &RefId, source: &RefId) -> Result<bool, Error> {
        let (key, source) = {
            let graph = self.graph.lock();
            let State::Mutable { key, .. } = &graph.get(id)?.state else {
                return Err(Error::NotMutable(id.clone()));
            };
            let source = match &graph.get(source)?.state {
                State::Ready { snapshot } => AnySnapshot::Committed(snapshot.clone()),
                State::Sealed { of } => match &graph.get(of)?.state {
                    State::Mutable { key, .. } => AnySnapshot::Active(key.clone()),
                    _ => return Ok(false),
                },
                State::Mutable { .. } | State::Lazy => return Ok(false),
            };
            (key.clone(), source)
        };
        let failed = Error::snapshot(format!("link files into cache record `{id}`"));
        self.snapshotter.entwine(&key, &source).await.map_err(failed)
    }

    pub(crate) async fn mount_local(&self, mount: Mount, to_read: bool) -> Result<MountGuard, Error> {
        let mounter = self.mounter.clone();
        let made =
            spawn_blocking(
                move || if to_read { mounter.mount_to_read(&mount) } else { mounter.mount(&mount) },
            );
        match made.await {
            Ok(result) => result.map_err(Error::snapshot("mount a cache record")),
            Err(error) => {
                Err(Error::Interrupted { action: "mount a cache record", reason: error.to_string() })
            }
        }
    }

    pub(crate) async fn size(&self, id: &RefId) -> Result<u64, Error> {
        let size = || {
            let graph = self.graph.lock();
            let facts = &graph.get(id)?.facts;
            Ok::<_, Error>(graph.size_of(facts))
        };
        if let Some(size) = size()? {
            return Ok(size);
        }
        self.measure(id).await;
        Ok(size()?.unwrap_or(0))
    }

    /// Measures a retained record that nobody changes.
    pub(crate) async fn measure(&self, id: &RefId) {
        let key = match self.graph.lock().records.get(id).map(|record| (&record.state, record.refs)) {
            Some((State::Mutable { key, .. }, 0)) => key.clone(),
            _ => return,
        };
        match self.snapshotter.active_usage(&key).await {
            Ok(usage) => {
                let stored = self.update(id, |record| {
                    if record.refs == 0 {
                        record.facts.size = Some(usage.size);
                    }
                });
                if let Err(error) = stored {
                    tracing::debug!(%error, "size of a cache record not stored");
                }
            }
            Err(error) => tracing::debug!(%error, %id, "cache record not measured"),
        }
    }

    pub(crate) async fn measure_all(&self) {
        let unknown: Vec<RefId> = self
            .graph
            .lock()
            .records
            .iter()
            .filter(|(_, record)| {
                record.facts.size.is_none()
                    && record.refs == 0
                    && matches!(record.state, State::Mutable { .. })
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in unknown {
            self.measure(&id).await;
        }
    }
}
