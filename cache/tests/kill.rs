//! A process that is killed leaves a cache that opens, whose records and files belong together.
//! Needs root.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache::{CacheManager, CacheOptions, CreateOptions, Error, GcPolicy, RecordType};
use buildkit_cache_metadata::{SledOptions, SledStore};
use buildkit_util_appcontext::spawn;

async fn open(root: &Path) -> CacheManager {
    let snapshotter = buildkit_snapshot_overlayfs::open(root.join("snapshots")).expect("snapshots");
    let metadata = SledStore::open(root.join("metadata"), SledOptions::default()).expect("metadata");
    CacheManager::open(CacheOptions {
        snapshotter: Arc::new(snapshotter),
        metadata: Arc::new(metadata),
        content: Arc::new(buildkit_util_contentutil::MemoryStore::default()),
        mount_root: root.join("mounts"),
        root: root.to_owned(),
        clock: SystemTime::now,
    })
    .await
    .expect("open")
}

/// Makes trees of all kinds, each with a file that says what it must hold, until killed.
async fn build_for_ever(cache: &CacheManager, worker: usize) -> Result<(), Error> {
    for round in 0u64.. {
        let name = format!("{worker}.{round}");
        let options = || CreateOptions { description: name.clone(), ..CreateOptions::default() };
        let base = cache.create(None, options()).await?;
        let mount = base.mount_local().await?;
        std::fs::write(mount.path().join("base"), &name).expect("write");
        drop(mount);
        let base = base.commit().await?;
        let retained =
            CreateOptions { cached_retain: true, record_type: RecordType::LocalSource, ..options() };
        let local = cache.create(Some(&base), retained).await?;
        let mount = local.mount_local().await?;
        std::fs::write(mount.path().join("local"), &name).expect("write");
        drop(mount);
        local.metadata().set_indexed("key", name.clone(), "killed")?;
        let local = local.commit().await?;
        let merged = cache.merge(&[local.clone(), base.clone()], options()).await?;
        drop(merged.mount_local().await?);
        drop((base, local, merged));
        if round % 8 == 7 {
            cache.prune(&[GcPolicy { max_used_space: 1 << 20, ..GcPolicy::default() }], |_| {}).await?;
        }
        // One write, so that lines of several workers do not mix.
        std::io::stdout().write_all(format!("\nround {name}\n").as_bytes()).expect("write");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn survives_kill() {
    // The test runs itself as the process that is killed.
    if let Some(root) = std::env::var_os("CACHE_TEST_ROOT") {
        let cache = open(Path::new(&root)).await;
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let cache = cache.clone();
                spawn(async move { build_for_ever(&cache, worker).await.expect("build") })
            })
            .collect();
        for worker in workers {
            worker.await.expect("worker");
        }
    }
    let dir = tempfile::tempdir().expect("temp dir");
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("exe"))
            .args(["--exact", "survives_kill", "--nocapture"])
            .env("CACHE_TEST_ROOT", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let out = BufReader::new(child.stdout.take().expect("stdout"));
        let builds = out.lines().map_while(Result::ok).filter(|line| line.starts_with("round "));
        assert_eq!(builds.take(5 + 7 * round).count(), 5 + 7 * round, "the child builds");
        child.kill().expect("kill");
        child.wait().expect("wait");

        let cache = open(dir.path()).await;
        cache.drain().await;
        let none: [&str; 0] = [];
        let records = cache.disk_usage(&none, None).await.expect("usage");
        for record in &records {
            let tree = cache.get(&record.id).await.expect("every record can be had");
            let mount = tree.mount_local().await.expect("every record can be mounted");
            let base = std::fs::read_to_string(mount.path().join("base")).expect("read");
            assert_eq!(base, record.description, "round {round}");
            if let Ok(local) = std::fs::read_to_string(mount.path().join("local")) {
                assert_eq!(local, record.description, "round {round}");
            }
        }
        for id in cache.search("killed") {
            assert!(cache.exists(&id));
        }
        assert_eq!(cache.live_refs(), 0);
        // What is left can be removed, to the last file.
        if round % 2 == 1 {
            cache.prune(&[GcPolicy { all: true, ..GcPolicy::default() }], |_| {}).await.expect("prune");
            cache.drain().await;
            assert!(cache.disk_usage(&none, None).await.expect("usage").is_empty());
            assert!(cache.snapshotter().list().await.expect("list").is_empty());
            let left = std::fs::read_dir(dir.path().join("snapshots/snapshots")).expect("read dir").count();
            assert_eq!(left, 0, "directories without a snapshot");
        }
        cache.close().await;
    }
}
