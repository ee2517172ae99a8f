use std::io;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use buildkit_util_appcontext::spawn_thread;

use crate::Backend;
use crate::index::Step;
use crate::layered::Inner;

/// Time for which commits are gathered before all of them are synced together.
const GATHER: Duration = Duration::from_secs(10);

/// Starts the thread that brings committed snapshots to disk in the background. It ends with the
/// snapshotter.
pub(crate) fn start<B: Backend>(inner: Weak<Inner<B>>, committed: Receiver<()>) -> io::Result<()> {
    spawn_thread("snapshot-sync", move || {
        while committed.recv().is_ok() {
            // Wakes up early when the snapshotter goes.
            let end = std::time::Instant::now() + GATHER;
            loop {
                match committed.recv_timeout(end.saturating_duration_since(std::time::Instant::now())) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let Some(inner) = inner.upgrade() else { return };
            if let Err(error) = inner.sync() {
                tracing::warn!(%error, "snapshots not synced");
            }
        }
    })
    .map(drop)
}

impl<B: Backend> Inner<B> {
    /// Syncs the file system, and records which snapshots were committed before.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let ids = self.state.lock().index.unsynced();
        if ids.is_empty() {
            return Ok(());
        }
        let root = fs_err::File::open(&self.root)?;
        rustix::fs::syncfs(root.file())?;
        let mut state = self.state.lock();
        state.index.mark_synced(&ids);
        self.journal(&mut state, &Step::Synced { ids }).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::Usage;
    use crate::index::{Journal, Step};

    #[test]
    fn what_was_not_on_disk_is_dropped_after_a_power_loss() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("journal");
        let open = |boot: &str| Journal::open(path.clone(), Some(boot), |_| true).expect("open");
        let (mut journal, mut index) = open("first");
        for (key, parent) in [("1", None), ("2", Some("1")), ("3", Some("2"))] {
            let id = index.prepare(key, parent, SystemTime::now()).expect("prepare");
            let step = Step::Prepare { key: key.into(), id, parent: parent.map(Into::into), created: 0 };
            journal.append(&step, &index).expect("append");
            index.commit(key, key, Usage::default()).expect("commit");
            let step = Step::Commit { key: key.into(), name: key.into(), size: 0, inodes: 0 };
            journal.append(&step, &index).expect("append");
            if key == "2" {
                let ids = index.unsynced();
                assert_eq!(ids.len(), 2);
                index.mark_synced(&ids);
                journal.append(&Step::Synced { ids }, &index).expect("append");
            }
        }
        let id = index.prepare("active", Some("1"), SystemTime::now()).expect("prepare");
        let step = Step::Prepare { key: "active".into(), id, parent: Some("1".into()), created: 0 };
        journal.append(&step, &index).expect("append");
        drop((journal, index));

        // The process was killed: everything is there.
        let (_, index) = open("first");
        assert_eq!((index.committed.len(), index.active.len()), (3, 1));
        assert_eq!(index.unsynced().len(), 1);
        // The machine went down.
        let (_, index) = open("second");
        assert_eq!((index.committed.len(), index.active.len()), (2, 0));
        let children = |name: &str| index.committed.get(name).expect("kept").children;
        assert_eq!((children("1"), children("2")), (1, 0));
        let (_, index) = open("second");
        assert_eq!(index.committed.len(), 2);
    }
}
