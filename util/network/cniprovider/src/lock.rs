//! A lock between daemons that set up networks with the same names.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Error;

/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// How long other daemons may take to set up their networks.
const PATIENCE: Duration = Duration::from_secs(120);

/// Held as long as the file is open. Without a path there is nobody to wait for.
pub(crate) async fn init_lock(path: Option<&Path>) -> Result<Option<fs::File>, Error> {
    let Some(path) = path else { return Ok(None) };
    let action = || format!("lock `{}`", path.display());
    let file = fs::OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(action()))?;
    let wait = async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(Error::io(action())(error.into())),
            }
        }
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(locked) => locked.map(|()| Some(file)),
        Err(_) => Err(Error::Invalid(format!(
            "Failed to {}: another daemon has held it for {} seconds",
            action(),
            PATIENCE.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("lock");
        assert!(init_lock(None).await.expect("no lock").is_none());
        let first = init_lock(Some(&path)).await.expect("lock").expect("a file");
        let mut second = std::pin::pin!(init_lock(Some(&path)));
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        assert!(second.await.expect("lock").is_some());
        let error = init_lock(Some(&dir.path().join("no/lock"))).await.expect_err("no directory");
        assert!(error.to_string().contains("Failed to lock"), "{error}");
    }
}
