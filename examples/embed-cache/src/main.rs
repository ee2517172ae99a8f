//! The cache crate alone in another program.
//!
//! `example-embed-cache ROOT` makes three trees in `ROOT`, merges two of them, lists what they occupy
//! and removes all but a little. The trees of an earlier run are found again by an index. Needs root
//! for overlayfs; elsewhere trees are copies.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use buildkit_cache::{CacheManager, CacheOptions, CreateOptions, GcPolicy, ImmutableRef};
use buildkit_cache_metadata::{SledOptions, SledStore};
use buildkit_snapshot::Snapshotter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).context("Usage: example-embed-cache ROOT")?);
    let cache = open(&root).await?;
    run(&cache).await?;
    cache.close().await;
    Ok(())
}

async fn open(root: &Path) -> anyhow::Result<CacheManager> {
    fs_err::create_dir_all(root)?;
    // The caller decides what the parts are; the cache knows only their ports.
    let snapshots = root.join("snapshots");
    let snapshotter: Arc<dyn Snapshotter> = match buildkit_snapshot_overlayfs::is_supported(root) {
        Ok(()) => Arc::new(buildkit_snapshot_overlayfs::open(snapshots)?),
        Err(_) => Arc::new(buildkit_snapshot_native::open(snapshots)?),
    };
    let metadata = SledStore::open(root.join("metadata"), SledOptions::default())?;
    let options = CacheOptions {
        snapshotter,
        metadata: Arc::new(metadata),
        content: Arc::new(buildkit_util_contentutil::MemoryStore::default()),
        mount_root: root.join("mounts"),
        root: root.to_owned(),
        clock: SystemTime::now,
    };
    Ok(CacheManager::open(options).await?)
}

/// A tree of one file on top of another tree, or the one that an earlier run made.
async fn tree(
    cache: &CacheManager,
    name: &str,
    below: Option<&ImmutableRef>,
) -> anyhow::Result<ImmutableRef> {
    let index = format!("example:{name}");
    if let Some(id) = cache.search(&index).first() {
        println!("{name}: found {id}");
        return Ok(cache.get(id).await?);
    }
    let options = CreateOptions { description: format!("example {name}"), ..CreateOptions::default() };
    let active = cache.create(below, options).await?;
    let mount = active.mount_local().await?;
    fs_err::write(mount.path().join(name), format!("the content of {name}\n"))?;
    drop(mount);
    let tree = active.commit().await?;
    tree.metadata().set_indexed("name", name, &index)?;
    println!("{name}: made {}", tree.id());
    Ok(tree)
}

async fn run(cache: &CacheManager) -> anyhow::Result<()> {
    let base = tree(cache, "base", None).await?;
    let top = tree(cache, "top", Some(&base)).await?;
    let other = tree(cache, "other", None).await?;
    let merged = cache.merge(&[top, other], CreateOptions::default()).await?;
    let mount = merged.mount_local().await?;
    for entry in fs_err::read_dir(mount.path())? {
        println!("merged: {}", entry?.file_name().to_string_lossy());
    }
    drop(mount);

    let none: [&str; 0] = [];
    for record in cache.disk_usage(&none, None).await? {
        let in_use = if record.in_use { "in use" } else { "idle" };
        println!("{}: {} bytes, {in_use}, {:?}", record.id, record.size, record.description);
    }
    // Whoever holds a ref keeps it and its parents; the merge and the rest may go.
    drop(merged);
    let policy = GcPolicy { max_used_space: 16 << 10, ..GcPolicy::default() };
    cache.prune(&[policy], |record| println!("removed {} ({} bytes)", record.id, record.size)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn two_runs_share_their_trees() {
        let dir = tempfile::tempdir().expect("temp dir");
        let cache = open(dir.path()).await.expect("open");
        run(&cache).await.expect("first run");
        let base = cache.search("example:base");
        assert_eq!(base.len(), 1);
        cache.close().await;
        drop(cache);
        let cache = open(dir.path()).await.expect("open again");
        run(&cache).await.expect("second run");
        assert_eq!(cache.search("example:base"), base);
        assert_eq!(cache.live_refs(), 0);
    }
}
