use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::Error;

const FILE: &str = ".token_seed";
const LOCK: &str = ".token_seed.lock";
/// Bytes of a new seed.
const LENGTH: usize = 16;

/// One seed as the file has it.
#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "Seed")]
    seed: String,
}

/// Seeds by host, kept in a file that all clients of the user share: `{"HOST": {"Seed": BASE64}}`.
pub(crate) struct Seeds {
    dir: PathBuf,
    /// What the file holds, or would hold if it could be written.
    known: Mutex<BTreeMap<String, Entry>>,
}

impl Seeds {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), known: Mutex::default() }
    }

    /// The seed of a host, made when there is none. Waits for other programs that have the file: not to
    /// be called from async code.
    pub(crate) fn get(&self, host: &str) -> Result<Vec<u8>, Error> {
        let path = self.dir.join(FILE);
        let failed = |source| Error::Seeds { path: path.clone(), source };
        optional(fs_err::create_dir_all(&self.dir)).map_err(failed)?;
        let lock = optional(self.lock()).map_err(failed)?;
        let mut on_disk = match fs_err::read(&path) {
            // A file that somebody did not finish is written anew.
            Ok(bytes) => serde_json::from_slice::<BTreeMap<String, Entry>>(&bytes).unwrap_or_default(),
            Err(error) if is_absent(&error) || is_refused(&error) => BTreeMap::new(),
            Err(error) => return Err(failed(error)),
        };
        let seed = {
            let mut known = self.known.lock();
            known.append(&mut on_disk);
            let found = known.get(host).and_then(|entry| BASE64_STANDARD.decode(&entry.seed).ok());
            if let Some(seed) = found {
                return Ok(seed);
            }
            let mut seed = vec![0; LENGTH];
            aws_lc_rs::rand::fill(&mut seed).map_err(|_| failed(io::Error::other("No random numbers")))?;
            known.insert(host.to_owned(), Entry { seed: BASE64_STANDARD.encode(&seed) });
            on_disk = known.clone();
            seed
        };
        optional(self.write(&path, &on_disk)).map_err(failed)?;
        drop(lock);
        Ok(seed)
    }

    fn lock(&self) -> io::Result<fs_err::File> {
        let file = fs_err::OpenOptions::new().create(true).append(true).open(self.dir.join(LOCK))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Replaces the file in one step; only its owner may read it.
    fn write(&self, path: &Path, seeds: &BTreeMap<String, Entry>) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer_pretty(&mut file, seeds)?;
        file.flush()?;
        file.persist(path)?;
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Where nothing may be written, seeds last as long as the program.
fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_refused(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn seeds_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("new");
        let seeds = Seeds::new(&dir);
        let (a, b) = (seeds.get("a").expect("made"), seeds.get("b").expect("made"));
        assert_eq!((a.len(), a == b), (LENGTH, false));
        assert_eq!(seeds.get("a").expect("kept"), a);
        assert_eq!(Seeds::new(&dir).get("b").expect("read"), b);
        let path = dir.join(FILE);
        let mode = fs_err::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // The form that Go's clients write and read.
        fs_err::write(&path, "{\n  \"go\": {\n    \"Seed\": \"AAECAwQFBgcICQoLDA0ODw==\"\n  }\n}")
            .expect("written");
        assert_eq!(Seeds::new(&dir).get("go").expect("read"), (0..16).collect::<Vec<u8>>());
        fs_err::write(&path, "{\"a\"").expect("written");
        assert_ne!(Seeds::new(&dir).get("a").expect("made anew"), a);
        assert_eq!(seeds.get("b").expect("known still"), b);
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        fs_err::write(&file, "").expect("written");
        assert!(matches!(Seeds::new(&file).get("a"), Err(Error::Seeds { .. })));
    }

    #[test]
    fn many_at_once_agree() {
        let dir = tempfile::tempdir().expect("a directory");
        let found: Vec<_> = std::thread::scope(|scope| {
            let one = || Seeds::new(dir.path()).get("a").expect("a seed");
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(found.iter().all(|seed| *seed == found[0]));
    }
}
