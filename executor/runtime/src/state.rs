//! What later calls need to know of a running container.

use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error};

/// Name of the file in the container's directory.
const FILE: &str = "state.json";

/// A running container.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// Its first process.
    pub pid: i32,
    /// When that was started, in the kernel's ticks: a number is given to another process later.
    pub start_time: u64,
    /// Directory with its configuration.
    pub bundle: PathBuf,
}

/// The directory of a container, removed when dropped unless it is kept.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    /// Makes the directory.
    pub(crate) fn make(root: &Path, id: &str) -> Result<Self, Error> {
        check_id(id)?;
        let path = root.join(id);
        let made = fs::create_dir_all(root).and_then(|()| match fs::create_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|()| true),
        });
        if made.context("make the directory of the container")? {
            Ok(Self { path, keep: false })
        } else {
            Err(Error::new(format!("container with id {id} already exists")))
        }
    }

    pub(crate) fn write(&self, state: &State) -> Result<(), Error> {
        let bytes = serde_json::to_vec(state).map_err(|error| Error::new(error.to_string()))?;
        write_at_once(&self.path.join(FILE), &bytes)
    }

    /// Leaves it to who called.
    pub(crate) fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The state of a container that is known.
pub(crate) fn read(root: &Path, id: &str) -> Result<State, Error> {
    check_id(id)?;
    let not_there = || Error::new(format!("container {id} does not exist"));
    let bytes = fs::read(root.join(id).join(FILE)).map_err(|_| not_there())?;
    serde_json::from_slice(&bytes).map_err(|_| not_there())
}

/// An id is the name of a directory.
fn check_id(id: &str) -> Result<(), Error> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.bytes().all(valid) {
        return Err(Error::new(format!("invalid container id {id:?}")));
    }
    Ok(())
}

/// Writes a file so that it is there as a whole or not at all.
pub(crate) fn write_at_once(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let written = fs::File::create(&new)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&new, path));
    written.context(format_args!("write `{}`", path.display()))
}

/// When a process was started. Fails when it is not there.
pub(crate) fn start_time(pid: Pid) -> Result<u64, Error> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    start_time_in(&stat).ok_or_else(|| Error::new("the kernel does not say when a process was started"))
}

/// The twenty-second field of proc_pid_stat(5). The second one may have spaces and brackets inside.
fn start_time_in(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21\n";
        assert_eq!(start_time_in(stat), Some(4711));
        assert_eq!(start_time_in("7 (a) S 1"), None);
        assert!(start_time(rustix::process::getpid()).expect("this process") > 0);
    }

    #[test]
    fn directories_come_and_go() {
        let root = tempfile::tempdir().expect("directory");
        for id in ["", ".", "..", "a/b", "a b", "ä"] {
            assert!(Directory::make(root.path(), id).is_err(), "{id}");
            assert!(read(root.path(), id).is_err(), "{id}");
        }
        let directory = Directory::make(root.path(), "a").expect("made");
        assert!(Directory::make(root.path(), "a").is_err());
        assert!(read(root.path(), "a").is_err());
        directory.write(&State { pid: 1, start_time: 2, bundle: "/b".into() }).expect("written");
        assert_eq!(read(root.path(), "a").expect("state").start_time, 2);
        drop(directory);
        assert!(!root.path().join("a").exists());
        Directory::make(root.path(), "a").expect("made").keep();
        assert!(root.path().join("a").exists());
    }
}
