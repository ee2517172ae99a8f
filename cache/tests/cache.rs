//! Refs, records, restarts and garbage collection on real snapshots. Needs root.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use buildkit_cache::{
    CacheManager, CacheOptions, CreateOptions, Error, GcPolicy, ImmutableRef, MutableRef, RecordType, RefId,
    UsageRecord,
};
use buildkit_cache_metadata::{MemoryStore, MetadataStore};
use buildkit_snapshot::{ActiveKey, SnapshotName, Snapshotter};
use buildkit_util_appcontext::spawn;

struct Fixture {
    dir: tempfile::TempDir,
    metadata: Arc<MemoryStore>,
    overlay: bool,
}

impl Fixture {
    fn new(overlay: bool) -> Self {
        assert!(is_root(), "the cache tests need root");
        Self { dir: tempfile::tempdir().expect("temp dir"), metadata: Arc::default(), overlay }
    }

    fn snapshotter(&self) -> Arc<dyn Snapshotter> {
        let root = self.dir.path().join("snapshots");
        if self.overlay {
            Arc::new(buildkit_snapshot_overlayfs::open(root).expect("overlayfs"))
        } else {
            Arc::new(buildkit_snapshot_native::open(root).expect("native"))
        }
    }

    async fn open(&self) -> CacheManager {
        CacheManager::open(CacheOptions {
            snapshotter: self.snapshotter(),
            metadata: self.metadata.clone() as Arc<dyn MetadataStore>,
            content: Arc::new(buildkit_util_contentutil::MemoryStore::default()),
            mount_root: self.dir.path().join("mounts"),
            root: self.dir.path().to_owned(),
            clock: SystemTime::now,
        })
        .await
        .expect("open")
    }
}

fn is_root() -> bool {
    let dir = tempfile::tempdir().expect("temp dir");
    std::os::unix::fs::chown(dir.path(), Some(1), Some(1)).is_ok()
}

fn options(description: &str) -> CreateOptions {
    CreateOptions { description: description.to_owned(), ..CreateOptions::default() }
}

fn retained(description: &str, record_type: RecordType) -> CreateOptions {
    CreateOptions { cached_retain: true, record_type, ..options(description) }
}

async fn write(mutable: &MutableRef, path: &str, content: impl AsRef<[u8]>) {
    let mount = mutable.mount_local().await.expect("mount");
    let path = mount.path().join(path);
    std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    std::fs::write(path, content).expect("write");
}

async fn layer(
    cache: &CacheManager,
    parent: Option<&ImmutableRef>,
    path: &str,
    content: &str,
) -> ImmutableRef {
    let mutable = cache.create(parent, options(path)).await.expect("create");
    write(&mutable, path, content).await;
    mutable.commit().await.expect("commit")
}

async fn read(tree: &ImmutableRef, path: &str) -> Option<String> {
    let mount = tree.mount_local().await.expect("mount");
    std::fs::read_to_string(mount.path().join(path)).ok()
}

async fn usage(cache: &CacheManager) -> Vec<UsageRecord> {
    let none: [&str; 0] = [];
    cache.disk_usage(&none, None).await.expect("usage")
}

async fn prune(cache: &CacheManager, policy: GcPolicy) -> Vec<String> {
    let mut freed = Vec::new();
    cache.prune(&[policy], |record| freed.push(record.description)).await.expect("prune");
    freed
}

/// Nothing is held, and disk and records agree.
async fn check_clean(fixture: &Fixture, cache: &CacheManager, records: usize) {
    cache.drain().await;
    assert_eq!(cache.live_refs(), 0, "refs are held");
    assert_eq!(usage(cache).await.len(), records);
    // Work on the blocking pool whose caller has left cleans up when it comes to its end.
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let directories =
            std::fs::read_dir(fixture.dir.path().join("snapshots/snapshots")).expect("read dir").count();
        let snapshots = cache.snapshotter().list().await.expect("list").len();
        if directories == snapshots {
            break;
        }
        assert!(std::time::Instant::now() < end, "{directories} directories for {snapshots} snapshots");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mounts = std::fs::read_dir(fixture.dir.path().join("mounts")).expect("read dir").count();
    assert_eq!(mounts, 0, "mounts are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_are_committed_kept_and_released() {
    for overlay in [true, false] {
        let fixture = Fixture::new(overlay);
        let cache = fixture.open().await;
        let first = layer(&cache, None, "a", "1").await;
        let second = layer(&cache, Some(&first), "b", "2").await;
        assert_eq!(read(&second, "a").await.as_deref(), Some("1"));
        assert_eq!(second.parents(), [first.id().clone()]);
        assert!(second.size().await.expect("size") > 0);
        // A discarded one leaves nothing.
        let discarded = cache.create(Some(&second), options("discarded")).await.expect("create");
        write(&discarded, "c", "3").await;
        let id = discarded.id().clone();
        assert!(matches!(cache.get(&id).await, Err(Error::Locked(_))));
        drop(discarded);
        assert!(!cache.exists(&id));
        assert!(matches!(cache.get(&id).await, Err(Error::NotFound(_))));
        // What is built on a ref that is let go of stays.
        let ids = [first.id().clone(), second.id().clone()];
        let third = cache.create(Some(&second), options("third")).await.expect("create");
        drop((first, second));
        let record = |id: &RefId, records: &[UsageRecord]| {
            records.iter().find(|record| record.id == *id).cloned().expect("record")
        };
        let listed = usage(&cache).await;
        assert!(record(&ids[0], &listed).in_use && record(&ids[1], &listed).in_use);
        assert_eq!(record(&ids[0], &listed).usage_count, 1);
        assert!(record(&ids[0], &listed).last_used_at.is_some());
        assert!(prune(&cache, GcPolicy { all: true, ..GcPolicy::default() }).await.is_empty());
        drop(third);
        cache.drain().await;
        let listed = usage(&cache).await;
        assert!(listed.iter().all(|record| !record.in_use));
        check_clean(&fixture, &cache, 2).await;
        assert_eq!(prune(&cache, GcPolicy::default()).await, ["b", "a"], "children first");
        check_clean(&fixture, &cache, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_records_are_opened_again() {
    for overlay in [true, false] {
        let fixture = Fixture::new(overlay);
        let cache = fixture.open().await;
        let mutable = cache.create(None, retained("local", RecordType::LocalSource)).await.expect("create");
        let id = mutable.id().clone();
        mutable.metadata().set_indexed("key", *b"value", "local:dir").expect("set");
        write(&mutable, "f", "1").await;
        let sealed = mutable.commit().await.expect("commit");
        assert_ne!(*sealed.id(), id);
        assert_eq!(read(&sealed, "f").await.as_deref(), Some("1"));
        assert!(sealed.mount().await.expect("mount").readonly);
        assert_eq!(cache.search("local:dir"), std::slice::from_ref(&id));
        assert!(matches!(cache.get_mutable(&id).await, Err(Error::Locked(_))), "its result is held");
        assert_eq!(usage(&cache).await.len(), 1, "both share their files");
        let sealed_id = sealed.id().clone();
        drop(sealed);
        assert!(cache.exists(&sealed_id));
        assert_eq!(usage(&cache).await[0].id, id);

        // Opened again: the old result ends, the files stay.
        let mutable = cache.get_mutable(&id).await.expect("open");
        assert!(!cache.exists(&sealed_id));
        assert!(matches!(cache.get_mutable(&id).await, Err(Error::Locked(_))));
        write(&mutable, "g", "2").await;
        let sealed = mutable.commit().await.expect("commit");
        let clone = cache.get(&id).await.expect("the result of a retained record");
        assert_eq!(clone.id(), sealed.id());
        assert_eq!(read(&clone, "f").await.as_deref(), Some("1"));
        drop(clone);

        // Built upon: the result is for ever, the mutable record ends.
        let on_top = layer(&cache, Some(&sealed), "top", "3").await;
        assert!(!cache.exists(&id));
        assert!(matches!(cache.get_mutable(&id).await, Err(Error::NotFound(_))));
        assert!(cache.search("local:dir").is_empty());
        assert_eq!(read(&on_top, "g").await.as_deref(), Some("2"));
        assert!(matches!(cache.get_mutable(on_top.id()).await, Err(Error::NotMutable(_))));
        drop((on_top, sealed));
        check_clean(&fixture, &cache, 2).await;
        prune(&cache, GcPolicy::default()).await;
        check_clean(&fixture, &cache, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_mounts_keep_their_files() {
    let fixture = Fixture::new(true);
    let cache = fixture.open().await;
    let mutable = cache.create(None, retained("mount", RecordType::CacheMount)).await.expect("create");
    let id = mutable.id().clone();
    write(&mutable, "big", vec![1u8; 1 << 20]).await;
    assert_eq!(usage(&cache).await[0].size, 0, "it is being written");
    drop(mutable);
    cache.drain().await;
    let listed = usage(&cache).await;
    assert!(listed[0].size >= 1 << 20 && listed[0].mutable && !listed[0].in_use);
    cache.close().await;
    drop(cache);

    let cache = fixture.open().await;
    let mutable = cache.get_mutable(&id).await.expect("open");
    let mount = mutable.mount_local().await.expect("mount");
    assert_eq!(std::fs::metadata(mount.path().join("big")).expect("metadata").len(), 1 << 20);
    drop(mount);
    drop(mutable);
    // Nobody committed it; a reader gets a result all the same.
    let result = cache.get(&id).await.expect("get");
    assert!(read(&result, "big").await.is_some());
    drop(result);
    assert_eq!(prune(&cache, GcPolicy::default()).await, ["mount"]);
    check_clean(&fixture, &cache, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_are_merged_and_compared() {
    for overlay in [true, false] {
        let fixture = Fixture::new(overlay);
        let cache = fixture.open().await;
        let base = layer(&cache, None, "base", "0").await;
        let one = layer(&cache, Some(&base), "one", "1").await;
        let two = layer(&cache, Some(&one), "two", "2").await;
        let other = layer(&cache, None, "other", "x").await;
        let merged = cache.merge(&[two.clone(), other.clone()], options("merge")).await.expect("merge");
        assert_eq!(cache.snapshotter().list().await.expect("list").len(), 4, "made when needed");
        let reads: Vec<_> = (0..8)
            .map(|_| {
                let merged = merged.clone();
                spawn(async move { read(&merged, "other").await })
            })
            .collect();
        for task in reads {
            assert_eq!(task.await.expect("task").as_deref(), Some("x"));
        }
        assert_eq!(read(&merged, "two").await.as_deref(), Some("2"));
        assert_eq!(merged.parents().len(), 2);
        // A merge of a merge is one merge.
        let again = cache.merge(&[merged.clone(), base.clone()], options("again")).await.expect("merge");
        assert_eq!(again.parents(), [two.id().clone(), other.id().clone(), base.id().clone()]);
        assert_eq!(read(&again, "one").await.as_deref(), Some("1"));

        let diff = cache.diff(Some(&base), Some(&two), options("diff")).await.expect("diff").expect("some");
        assert_eq!(read(&diff, "one").await.as_deref(), Some("1"));
        assert_eq!(read(&diff, "base").await, None);
        let across =
            cache.diff(Some(&other), Some(&two), options("across")).await.expect("diff").expect("some");
        let on_diffs = cache.merge(&[diff.clone(), across.clone()], options("diffs")).await.expect("merge");
        assert_eq!(read(&on_diffs, "two").await.as_deref(), Some("2"));
        let minus = cache.diff(Some(&base), None, options("minus")).await.expect("diff").expect("some");
        let empty = cache.merge(&[base.clone(), minus.clone()], options("empty")).await.expect("merge");
        assert_eq!(read(&empty, "base").await, None);
        assert!(cache.diff(None, None, options("")).await.expect("diff").is_none());
        assert!(cache.diff(Some(&base), Some(&base), options("")).await.expect("diff").is_none());
        let same = cache.diff(None, Some(&two), options("")).await.expect("diff").expect("some");
        assert_eq!(same.id(), two.id());
        // A layer on a merge, and a difference of it.
        let top = layer(&cache, Some(&merged), "top", "t").await;
        let top_diff =
            cache.diff(Some(&merged), Some(&top), options("top diff")).await.expect("diff").expect("some");
        assert_eq!(read(&top_diff, "top").await.as_deref(), Some("t"));
        assert_eq!(read(&top_diff, "base").await, None);
        // A never needed merge goes without files.
        drop(cache.merge(&[base.clone(), top.clone()], options("unused")).await.expect("merge"));

        let held = top.clone();
        drop((
            base, one, two, other, merged, again, diff, across, on_diffs, minus, empty, same, top, top_diff,
        ));
        let freed = prune(&cache, GcPolicy::default()).await;
        assert!(!freed.contains(&"base".to_owned()) && freed.contains(&"unused".to_owned()), "{freed:?}");
        assert_eq!(read(&held, "two").await.as_deref(), Some("2"), "what is held is whole");
        drop(held);
        prune(&cache, GcPolicy::default()).await;
        check_clean(&fixture, &cache, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_ends_with_its_record() {
    let fixture = Fixture::new(true);
    let cache = fixture.open().await;
    let tree = layer(&cache, None, "f", "1").await;
    let metadata = tree.metadata();
    metadata.set("k", *b"1").expect("set");
    metadata.set_indexed("shared", *b"2", "index").expect("set");
    metadata.set_description("described").expect("set");
    assert_eq!(metadata.get("k").as_deref(), Some(&b"1"[..]));
    assert_eq!(metadata.get("none"), None);
    assert_eq!((metadata.description().as_str(), metadata.record_type()), ("described", RecordType::Regular));
    assert_eq!(cache.search("index"), [tree.id().clone()]);
    assert!(cache.search("inde").is_empty());
    cache.close().await;
    let id = tree.id().clone();
    drop((tree, cache));

    let cache = fixture.open().await;
    let again = cache.metadata(&id).expect("record");
    assert_eq!(again.get("shared").as_deref(), Some(&b"2"[..]));
    assert_eq!((again.description().as_str(), again.usage_count()), ("described", 1));
    prune(&cache, GcPolicy::default()).await;
    assert!(cache.search("index").is_empty());
    assert_eq!(again.get("k"), None);
    assert!(again.set("k", *b"3").is_err(), "a record that is gone takes no values");
    for bucket in ["cache.records", "cache.values", "cache.indexes"] {
        let bucket = buildkit_cache_metadata::Bucket::new(bucket);
        assert!(fixture.metadata.range(bucket, b"").expect("range").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_snapshots_are_reconciled() {
    let fixture = Fixture::new(true);
    let cache = fixture.open().await;
    let kept = layer(&cache, None, "kept", "1").await;
    let lost = layer(&cache, Some(&kept), "lost", "2").await;
    let on_lost = cache.merge(&[lost.clone(), kept.clone()], options("on lost")).await.expect("merge");
    let sealed = cache.create(None, retained("sealed", RecordType::LocalSource)).await.expect("create");
    let sealed_id = sealed.id().clone();
    write(&sealed, "s", "3").await;
    let sealed = sealed.commit().await.expect("commit");
    // Held by a process that dies.
    let unfinished = cache.create(Some(&kept), options("unfinished")).await.expect("create");
    let ids = [kept.id().clone(), lost.id().clone(), on_lost.id().clone(), sealed.id().clone()];
    let snapshotter = cache.snapshotter().clone();
    std::mem::forget((kept, lost, on_lost, sealed, unfinished, cache));
    // Its snapshot vanishes, another was committed without its record, a third is nobody's.
    snapshotter.remove(&SnapshotName(ids[1].to_string())).await.expect("remove");
    let key = ActiveKey(sealed_id.to_string());
    snapshotter.commit(&SnapshotName(ids[3].to_string()), &key).await.expect("commit");
    let stray = ActiveKey("stray".into());
    snapshotter.prepare(&stray, None).await.expect("prepare");
    snapshotter.commit(&SnapshotName("stray".into()), &stray).await.expect("commit");
    snapshotter.prepare(&stray, Some(&SnapshotName("stray".into()))).await.expect("prepare");
    snapshotter.commit(&SnapshotName("stray child".into()), &stray).await.expect("commit");
    drop(snapshotter);

    let cache = fixture.open().await;
    assert_eq!(ids.map(|id| cache.exists(&id)), [true, false, false, true]);
    assert!(!cache.exists(&sealed_id));
    let sealed = cache
        .get(&usage(&cache).await.iter().find(|record| record.description == "sealed").expect("sealed").id)
        .await
        .expect("get");
    assert_eq!(read(&sealed, "s").await.as_deref(), Some("3"));
    drop(sealed);
    check_clean(&fixture, &cache, 2).await;
    assert_eq!(cache.snapshotter().list().await.expect("list").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_obeys_filters_types_and_limits() {
    const MIB: i64 = 1 << 20;
    let fixture = Fixture::new(true);
    let cache = fixture.open().await;
    for (description, record_type) in [
        ("internal", RecordType::Internal),
        ("frontend", RecordType::Frontend),
        ("local", RecordType::LocalSource),
        ("regular", RecordType::Regular),
    ] {
        let mutable =
            cache.create(None, CreateOptions { record_type, ..options(description) }).await.expect("create");
        write(&mutable, "f", vec![0u8; 1 << 20]).await;
        drop(mutable.commit().await.expect("commit"));
    }
    let filter = |text: &str| GcPolicy { filters: vec![text.to_owned()], ..GcPolicy::default() };
    let listed = |filters: &'static [&'static str]| {
        let cache = cache.clone();
        async move { cache.disk_usage(filters, None).await.expect("usage").len() }
    };
    assert_eq!(listed(&["type==regular"]).await, 1);
    assert_eq!(listed(&["type==regular", "type==internal"]).await, 2);
    assert_eq!(listed(&["immutable,private"]).await, 4);
    assert_eq!(listed(&["mutable", "inuse", "shared"]).await, 0);
    assert!(cache.disk_usage(&["type="], None).await.is_err());
    assert!(cache.prune(&[filter("type=")], |_| {}).await.is_err());
    let hour = Some(Duration::from_secs(3600));
    let none: [&str; 0] = [];
    assert!(cache.disk_usage(&none, hour).await.expect("usage").is_empty(), "all are younger");
    let young = GcPolicy { keep_duration: Duration::from_secs(3600), all: true, ..GcPolicy::default() };
    assert!(prune(&cache, young).await.is_empty());

    assert_eq!(prune(&cache, filter("description~=^loc")).await, ["local"]);
    // 2.5 MiB may stay: one of the others must go, and only one.
    let cap = GcPolicy { all: true, max_used_space: 5 * MIB / 2, ..GcPolicy::default() };
    assert_eq!(prune(&cache, cap.clone()).await, ["internal"], "the oldest");
    assert!(prune(&cache, cap).await.is_empty(), "it is within its limit");
    let reserved = GcPolicy { all: true, max_used_space: 1, reserved_space: 4 * MIB, ..GcPolicy::default() };
    assert!(prune(&cache, reserved).await.is_empty());
    assert_eq!(prune(&cache, GcPolicy::default()).await, ["regular"], "frontends stay");
    assert_eq!(prune(&cache, GcPolicy { all: true, ..GcPolicy::default() }).await, ["frontend"]);
    check_clean(&fixture, &cache, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collection_beside_builds_takes_nothing_in_use() {
    let fixture = Fixture::new(true);
    let cache = fixture.open().await;
    let builders: Vec<_> = (0..6)
        .map(|builder| {
            let cache = cache.clone();
            spawn(async move {
                for round in 0..20 {
                    let base = layer(&cache, None, "base", &format!("{builder}.{round}")).await;
                    let top = layer(&cache, Some(&base), "top", "t").await;
                    drop(base);
                    let merged =
                        cache.merge(std::slice::from_ref(&top), options("merged")).await.expect("merge");
                    drop(top);
                    assert_eq!(read(&merged, "base").await, Some(format!("{builder}.{round}")));
                }
            })
        })
        .collect();
    let collector = {
        let cache = cache.clone();
        spawn(async move {
            loop {
                prune(&cache, GcPolicy { max_used_space: 1, all: true, ..GcPolicy::default() }).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    for builder in builders {
        builder.await.expect("builder");
    }
    drop(collector);
    prune(&cache, GcPolicy::default()).await;
    check_clean(&fixture, &cache, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_leaves_nothing_behind() {
    let fixture = Fixture::new(true);
    let cache = fixture.open().await;
    let base = layer(&cache, None, "base", "1").await;
    for wait in 0..40u64 {
        let work = {
            let (cache, base) = (cache.clone(), base.clone());
            spawn(async move {
                let top = layer(&cache, Some(&base), "top", "t").await;
                let merged = cache.merge(&[base.clone(), top], options("merged")).await.expect("merge");
                read(&merged, "top").await
            })
        };
        tokio::time::sleep(Duration::from_micros(wait * 100)).await;
        drop(work);
    }
    drop(base);
    // What was under way goes on to its end.
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while cache.live_refs() > 0 {
        assert!(std::time::Instant::now() < end, "refs are held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    prune(&cache, GcPolicy::default()).await;
    check_clean(&fixture, &cache, 0).await;
}

#[tokio::test]
async fn the_directory_of_mounts_is_private() {
    let fixture = Fixture::new(true);
    let cache = fixture.open().await;
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    };
    assert_eq!(mode(&fixture.dir.path().join("mounts")), 0o700);
    assert_eq!(mode(&fixture.dir.path().join("snapshots")), 0o700);
    drop(cache);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_on_a_merge_keeps_deletions() {
    let on = Fixture::new(true);
    let cache = on.open().await;
    let base = layer(&cache, None, "a", "a").await;
    let d = layer(&cache, None, "d", "d").await;
    let merged = cache.merge(&[base.clone(), d], options("merged")).await.expect("merge");
    let removed = cache.create(Some(&merged), options("removed")).await.expect("create");
    std::fs::remove_file(removed.mount_local().await.expect("mount").path().join("d")).expect("remove");
    let removed = removed.commit().await.expect("commit");
    // Neither side shows `d`, but one of the layers between them makes it and another one deletes it.
    let diff = cache.diff(Some(&base), Some(&removed), options("diff")).await.expect("diff").expect("a tree");
    let other = layer(&cache, Some(&base), "d", "other").await;
    let all = cache.merge(&[other, diff], options("all")).await.expect("merge");
    assert_eq!(read(&all, "a").await.as_deref(), Some("a"));
    assert_eq!(read(&all, "d").await, None);
}
