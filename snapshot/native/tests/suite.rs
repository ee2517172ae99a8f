//! Copied snapshots keep the contract.

use buildkit_snapshot::testsuite;
use buildkit_snapshot_native::open;

#[tokio::test(flavor = "multi_thread")]
async fn native_conforms() {
    let dir = tempfile::tempdir().expect("temp dir");
    testsuite::run(dir.path(), |root| open(root).expect("open")).await;
}
