//! Overlayfs snapshots keep the contract.

use std::time::Duration;

use buildkit_snapshot::{ActiveKey, LocalMounter, MountKind, SnapshotName, Snapshotter, testsuite};
use buildkit_snapshot_overlayfs::{is_supported, open};

#[tokio::test(flavor = "multi_thread")]
async fn overlayfs_conforms() {
    let dir = tempfile::tempdir().expect("temp dir");
    testsuite::run(dir.path(), |root| open(root).expect("open")).await;
}

#[test]
fn support_is_tried_without_a_trace() {
    let dir = tempfile::tempdir().expect("temp dir");
    is_supported(dir.path()).expect("overlayfs works here");
    assert_eq!(std::fs::read_dir(dir.path()).expect("read dir").count(), 0);
    let error = is_supported(std::path::Path::new("/proc")).expect_err("not there");
    assert!(!error.to_string().is_empty());
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let snapshots = open(dir.path()).expect("open");
    let (key, name) = (ActiveKey("k".into()), SnapshotName("n".into()));
    snapshots.prepare(&key, None).await.expect("prepare");
    snapshots.commit(&name, &key).await.expect("commit");
    let lost = SnapshotName("lost".into());
    snapshots.prepare(&key, Some(&name)).await.expect("prepare");
    snapshots.commit(&lost, &key).await.expect("commit");
    let mount = snapshots.view(&lost).await.expect("view");
    let MountKind::Overlay { lower, .. } = mount.kind else { panic!("two layers are an overlay") };
    drop(snapshots);
    // A directory without a record, a record without a directory, a torn line.
    let base = dir.path().join("snapshots");
    std::fs::create_dir_all(base.join("777/fs/deep")).expect("mkdir");
    std::fs::create_dir_all(base.join("half-made")).expect("mkdir");
    std::fs::remove_dir_all(lower[0].parent().expect("parent")).expect("remove");
    let journal = dir.path().join("journal");
    let mut text = std::fs::read(&journal).expect("journal");
    text.extend_from_slice(b"{\"prepare\":{\"key\":\"to");
    std::fs::write(&journal, text).expect("write");

    let snapshots = open(dir.path()).expect("open");
    assert_eq!(snapshots.list().await.expect("list").len(), 1);
    assert!(snapshots.stat(&name).await.is_ok());
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while std::fs::read_dir(dir.path().join("trash")).expect("trash").count() > 0 {
        assert!(std::time::Instant::now() < end, "leftovers stay");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(std::fs::read_dir(base).expect("snapshots").count(), 1);
    snapshots.prepare(&key, Some(&name)).await.expect("works on");
    snapshots.remove(&name).await.expect_err("has a child");
}

#[tokio::test]
async fn deep_stacks_are_mounted_shallow() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut snapshots = open(dir.path().join("root")).expect("open");
    let mounter = LocalMounter::open(dir.path().join("mounts")).expect("mounter");
    let key = ActiveKey("k".into());
    let name = |number: usize| SnapshotName(number.to_string());
    const LAYERS: usize = 600;
    for number in 0..LAYERS {
        let parent = number.checked_sub(1).map(name);
        snapshots.prepare(&key, parent.as_ref()).await.expect("prepare");
        let guard = mounter.mount(&snapshots.mounts(&key).await.expect("mounts")).expect("mount");
        std::fs::write(guard.path().join(format!("file{number}")), b"x").expect("write");
        std::fs::write(guard.path().join("last"), number.to_string()).expect("write");
        drop(guard);
        snapshots.commit(&name(number), &key).await.expect("commit");
    }
    for _ in 0..2 {
        let view = snapshots.view(&name(LAYERS - 1)).await.expect("view");
        let MountKind::Overlay { lower, .. } = &view.kind else { panic!("an overlay") };
        assert!(lower.len() < 40, "{} layers", lower.len());
        let guard = mounter.mount(&view).expect("mount");
        assert_eq!(std::fs::read_dir(guard.path()).expect("read dir").count(), LAYERS + 1);
        drop(guard);
        drop(snapshots);
        snapshots = open(dir.path().join("root")).expect("open again");
    }
    for number in (0..LAYERS).rev() {
        snapshots.remove(&name(number)).await.expect("remove");
    }
    let left = std::fs::read_dir(dir.path().join("root/snapshots")).expect("read dir").count();
    assert_eq!(left, 0, "directories are left");
}
