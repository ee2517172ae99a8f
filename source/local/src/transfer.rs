use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use buildkit_cache::{
    CacheManager, CreateOptions, ImmutableRef, LocalMount, MutableRef, RecordType, RefId, RefMetadata,
};
use buildkit_cache_contenthash::{ContentHasher, Tree, TreeUpdater};
use buildkit_errdefs::{BoxError, Classify, Kind};
use buildkit_session::SessionCaller;
use buildkit_session_filesync::{FsSyncRequest, fs_sync};
use buildkit_util_fsutil::types::Stat;
use buildkit_util_fsutil::{Change, ContentHook, Differ, MetadataFilter, Progress};
use buildkit_util_patternmatcher::PatternMatcher;
use buildkit_util_progress::Writer;
use buildkit_util_system::Root;
use parking_lot::Mutex;

use crate::identifier::Options;

/// Metadata key, and start of the index, of the key that a record was transferred for.
const SHARED_KEY: &str = "local.sharedKey";

/// Time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Why a transfer failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Session(buildkit_session::Error),
    Cache(buildkit_cache::Error),
    Transfer(buildkit_session_filesync::Error),
    Patterns(buildkit_util_patternmatcher::Error),
    Root(buildkit_util_system::Error),
    /// The files are still being written although the transfer has ended.
    Busy,
}

impl From<buildkit_session::Error> for Failure {
    fn from(error: buildkit_session::Error) -> Self {
        Self::Session(error)
    }
}

impl Failure {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Session(error) => error.kind(),
            Self::Cache(error) => error.kind(),
            Self::Transfer(error) => error.kind(),
            Self::Patterns(error) => error.kind(),
            Self::Root(error) => error.kind(),
            Self::Busy => Kind::Internal,
        }
    }

    pub(crate) fn into_source(self) -> BoxError {
        match self {
            Self::Session(error) => error.into(),
            Self::Cache(error) => error.into(),
            Self::Transfer(error) => error.into(),
            Self::Patterns(error) => error.into(),
            Self::Root(error) => error.into(),
            Self::Busy => "Transfer has not ended".into(),
        }
    }
}

/// What a transfer works with.
pub(crate) struct Transfer<'a> {
    pub(crate) cache: &'a CacheManager,
    pub(crate) checksums: &'a ContentHasher,
    pub(crate) options: &'a Options,
    pub(crate) progress: &'a Writer,
}

/// A record that is being changed. Unmounted before it is released; alive as long as something may be
/// written.
struct Destination {
    mount: LocalMount,
    record: MutableRef,
}

impl Transfer<'_> {
    /// Brings a record up to date with the directory of a client.
    pub(crate) async fn run(&self, caller: &SessionCaller) -> Result<ImmutableRef, Failure> {
        let shared_key = self.options.shared_key(caller.shared_key());
        let (record, new) = self.open(&shared_key).await?;
        let metadata = record.metadata();
        let known = if new { Tree::new() } else { self.checksums.tree(record.id(), &metadata).await };
        // What is known cannot be kept up to date by changes alone if nothing is: then all is sent
        // again. A look at the files would give the root another digest than transfers do.
        let differ = if !new && known.is_empty() { Differ::None } else { self.options.differ };
        let mount = record.mount_local().await.map_err(Failure::Cache)?;
        let root = Root::open(mount.path()).map_err(Failure::Root)?;
        let destination = Arc::new(Destination { mount, record });
        let updates = Arc::new(Updates {
            updater: Mutex::new(TreeUpdater::new(known)),
            begun: AtomicBool::new(false),
            checksums: self.checksums.clone(),
            id: destination.record.id().clone(),
            metadata: metadata.clone(),
        });
        let request = FsSyncRequest {
            name: self.options.name.clone(),
            include: self.options.include.clone().unwrap_or_default(),
            exclude: self.options.exclude.clone().unwrap_or_default(),
            follow_paths: self.options.follow_paths.clone().unwrap_or_default(),
            differ,
            filter: None,
            metadata_only: self.metadata_filter()?,
            hook: Some(Box::new(Hook(updates.clone()))),
            progress: Some(report(self.progress, &format!("transferring {}:", self.options.name))),
            keep: Some(destination.clone()),
        };
        if let Err(error) = fs_sync(caller, root, request).await {
            // The next transfer goes on from a part, but not from one that leaves no room for the rest.
            if error.kind() == Kind::ResourceExhausted
                && let Some(Destination { mount, record }) = Arc::into_inner(destination)
            {
                drop(mount);
                record.abandon();
            }
            return Err(Failure::Transfer(error));
        }
        let Destination { mount, record } = Arc::into_inner(destination).ok_or(Failure::Busy)?;
        drop(mount);
        let updates = Arc::into_inner(updates).ok_or(Failure::Busy)?;
        let begun = updates.begun.into_inner();
        let tree = updates.updater.into_inner().finish();
        if begun {
            self.checksums.set_tree(record.id(), &metadata, tree.clone()).await;
        }
        let result = record.commit().await.map_err(Failure::Cache)?;
        // The file with the attributes is not among the changes: it is found by a look.
        if !self.options.metadata_only {
            self.checksums.set_tree(result.id(), &result.metadata(), tree).await;
        }
        Ok(result)
    }

    /// The record of an earlier transfer that nobody uses, or a new one.
    async fn open(&self, shared_key: &str) -> Result<(MutableRef, bool), Failure> {
        let index = format!("{SHARED_KEY}:{shared_key}");
        for id in self.cache.search(&index) {
            match self.cache.get_mutable(&id).await {
                Ok(record) => {
                    tracing::debug!(record = %id.as_str(), "going on from an earlier transfer");
                    return Ok((record, false));
                }
                Err(error) => {
                    tracing::debug!(record = %id.as_str(), %error, "earlier transfer not usable");
                }
            }
        }
        let options = CreateOptions {
            description: format!("local source for {}", self.options.name),
            record_type: RecordType::LocalSource,
            cached_retain: true,
            ..CreateOptions::default()
        };
        let record = self.cache.create(None, options).await.map_err(Failure::Cache)?;
        // Found by this key from now on: a transfer that fails is gone on from as well.
        record.metadata().set_indexed(SHARED_KEY, shared_key, &index).map_err(Failure::Cache)?;
        Ok((record, true))
    }

    fn metadata_filter(&self) -> Result<Option<MetadataFilter>, Failure> {
        if !self.options.metadata_only {
            return Ok(None);
        }
        let exceptions = self.options.metadata_exceptions.iter().flatten();
        let matcher = PatternMatcher::new(exceptions).map_err(Failure::Patterns)?;
        Ok(Some(Arc::new(move |path: &str, _: &Stat| {
            matcher.matches_or_parent_matches(path).unwrap_or(false)
        })))
    }
}

/// Reports bytes as a part of a step, not more often than people can see.
fn report(progress: &Writer, id: &str) -> Progress {
    let state = Mutex::new((Some(progress.start_action(id, "transferring")), Instant::now()));
    Arc::new(move |bytes, last| {
        let current = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut state = state.lock();
        if last {
            if let Some(part) = state.0.take() {
                part.done(current, 0);
            }
        } else if state.1.elapsed() >= REPORT_EVERY {
            state.1 = Instant::now();
            if let Some(part) = &state.0 {
                part.update(current, 0);
            }
        }
    })
}

/// What is known of a record while it changes.
struct Updates {
    updater: Mutex<TreeUpdater>,
    begun: AtomicBool,
    checksums: ContentHasher,
    id: RefId,
    metadata: RefMetadata,
}

/// Hands changes to the updater, which is wanted back in the end.
struct Hook(Arc<Updates>);

impl ContentHook for Hook {
    fn begin(&mut self) -> Result<(), BoxError> {
        // From here to the end of the transfer nothing is known of the files.
        self.0.checksums.forget(&self.0.id, &self.0.metadata);
        self.0.begun.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn hasher(&mut self, stat: &Stat) -> Result<Box<dyn buildkit_util_fsutil::ContentHasher>, BoxError> {
        self.0.updater.lock().hasher(stat)
    }

    fn change(&mut self, change: Change<'_>) -> Result<(), BoxError> {
        self.0.updater.lock().change(change)
    }
}
