//! Looks at files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use buildkit_util_system::{FileKind, Root};

use crate::file::{BUFFER, hash_with};
use crate::record::{Hash, Kind, Record};
use crate::{Error, Result, Tree, key};

const MAX_LINKS: usize = 255;

/// Files that are worth another thread.
const FILES_PER_THREAD: usize = 16;

/// Most threads that hash.
const MAX_THREADS: usize = 8;

fn os_path(path: &[u8]) -> PathBuf {
    match path {
        b"" => PathBuf::from("/"),
        path => PathBuf::from(OsStr::from_bytes(path)),
    }
}

/// Finds what is at a path: adds the symbolic links on the way, and all that is in the directory
/// around it.
pub(crate) fn scan(tree: &mut Tree, root: &Root, path: &[u8], follow: bool) -> Result<()> {
    let found = resolve(tree, root, path, follow)?;
    let around = match found.iter().rposition(|&byte| byte == b'/') {
        Some(at) => &found[..at],
        None => &found[..],
    };
    let stat = match root.lstat(os_path(around)) {
        Ok(stat) => stat,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(source) => return Err(io("lstat", around, source)),
    };
    if stat.kind != FileKind::Directory {
        add(tree, root, around, stat.kind)?;
        return Ok(());
    }
    add(tree, root, around, stat.kind)?;
    let mut directories = vec![around.to_vec()];
    while let Some(directory) = directories.pop() {
        let entries = root.read_dir(os_path(&directory)).map_err(|source| io("open", &directory, source))?;
        for entry in entries {
            let path = [&directory[..], b"/", entry.name.as_bytes()].concat();
            let kind = match entry.kind {
                FileKind::Unknown => {
                    root.lstat(os_path(&path)).map_err(|source| io("lstat", &path, source))?.kind
                }
                kind => kind,
            };
            if add(tree, root, &path, kind)? && kind == FileKind::Directory {
                directories.push(path);
            }
        }
    }
    Ok(())
}

/// Adds records of a path that is not known; says whether it was not.
fn add(tree: &mut Tree, root: &Root, path: &[u8], kind: FileKind) -> Result<bool> {
    let at = key::of_path(path);
    if tree.records.contains_key(&at) {
        return Ok(false);
    }
    let record = match kind {
        FileKind::Directory => {
            tree.records.insert(key::header(&at), Record::new(Kind::Header));
            Record::new(Kind::Dir)
        }
        FileKind::Symlink => {
            let target = root.readlink(os_path(path)).map_err(|source| io("readlink", path, source))?;
            Record { target: target.as_bytes().into(), ..Record::new(Kind::Symlink) }
        }
        _ => Record::new(Kind::File),
    };
    tree.records.insert(at, record);
    tree.dirty = true;
    Ok(true)
}

/// Where a path leads; what does not exist leads to itself. Adds the links on the way.
fn resolve(tree: &mut Tree, root: &Root, path: &[u8], follow: bool) -> Result<Vec<u8>> {
    let mut rest = path.to_vec();
    let mut current: Vec<u8> = Vec::new();
    let mut links = 0;
    while !rest.is_empty() {
        if rest.last() == Some(&b'/') {
            rest.pop();
        }
        let (part, after) = match rest.iter().position(|&byte| byte == b'/') {
            Some(at) => (rest[..at].to_vec(), rest[at + 1..].to_vec()),
            None => (std::mem::take(&mut rest), Vec::new()),
        };
        rest = after;
        let next = key::join(&current, &part);
        if next.is_empty() {
            current.clear();
            continue;
        }
        let is_link = match root.lstat(os_path(&next)) {
            Ok(stat) => stat.kind == FileKind::Symlink,
            Err(error) if error.is_not_found() => false,
            Err(source) => return Err(io("lstat", &next, source)),
        };
        if !is_link {
            current = next;
            continue;
        }
        if !follow && rest.is_empty() {
            current = next;
            break;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Error::TooManyLinks);
        }
        add(tree, root, &next, FileKind::Symlink)?;
        let target = match tree.records.get(&key::of_path(&next)) {
            Some(record) => record.target.clone(),
            None => break,
        };
        rest = [&target[..], b"/", &rest].concat();
        if target.first() == Some(&b'/') {
            current.clear();
        }
    }
    Ok(current)
}

fn io(action: &'static str, path: &[u8], source: buildkit_util_system::Error) -> Error {
    Error::Io { action, path: os_path(path), cause: source }
}

/// Hashes the files of some keys on all cores; the hashes are in the order of the keys.
pub(crate) fn hash_all(root: &Root, keys: &[Vec<u8>]) -> Result<Vec<Hash>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = cores.min(MAX_THREADS).min(keys.len().div_ceil(FILES_PER_THREAD)).max(1);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || -> Result<Vec<(usize, Hash)>> {
        let mut buffer = vec![0; BUFFER];
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(key) = keys.get(at) else { break };
            let path = key::to_path(key.strip_suffix(&[0]).unwrap_or(key));
            match hash_with(root, Path::new(&os_path(&path)), &mut buffer) {
                Ok(hash) => done.push((at, hash)),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let mut hashes = vec![[0; 32]; keys.len()];
    let results = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        for helper in helpers {
            results.push(match helper.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
        }
        results
    });
    for result in results {
        for (at, hash) in result? {
            hashes[at] = hash;
        }
    }
    Ok(hashes)
}
