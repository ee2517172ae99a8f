//! Reading single files of a mounted ref without ever leaving it.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend_gateway_client::{FileRange, Stat};
use buildkit_util_fsutil::mode;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_patternmatcher::PatternMatcher;
use buildkit_util_system::{Error, FileKind, FileStat, Root};
use bytes::Bytes;

/// Largest piece of a file that one call returns, below every message limit.
const READ_LIMIT: u64 = 15 << 20;
/// Most bytes that an entry of a directory takes beside its name and what it links to.
const STAT_SIZE: u64 = 80;

/// An error in the words of Go's `os.PathError`, which clients match on.
fn path_error(call: &str, path: &str, error: &Error) -> RemoteError {
    let message = match error.errno() {
        Some(errno) => {
            let text = rustix_text(errno);
            format!("{call} {path}: {text}")
        }
        None => error.to_string(),
    };
    RemoteError::new(if error.is_not_found() { Kind::NotFound } else { error.kind() }, message)
}

/// The text of an error number as Go prints it.
fn rustix_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The content of a regular file, or a part of it.
pub(crate) fn read_file(root: &Path, path: &str, range: Option<FileRange>) -> Result<Bytes, RemoteError> {
    let root = Root::open(root).map_err(|error| path_error("open", path, &error))?;
    let mut file = root.open_file(path).map_err(|error| match error {
        Error::NotRegular(_) => {
            RemoteError::new(Kind::InvalidArgument, format!("{path} is not a regular file"))
        }
        error => path_error("open", path, &error),
    })?;
    let failed = |source| path_error("read", path, &Error::io("read", path, source));
    let mut limit = READ_LIMIT + 1;
    if let Some(range) = range {
        limit = limit.min(range.length);
        // File systems refuse places that no file of theirs can have.
        let size = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(range.offset.min(size))).map_err(failed)?;
    }
    let mut data = Vec::new();
    file.take(limit).read_to_end(&mut data).map_err(failed)?;
    if data.len() as u64 > READ_LIMIT {
        return Err(RemoteError::new(
            Kind::ResourceExhausted,
            format!("{path} is larger than {READ_LIMIT} bytes, read it in ranges"),
        ));
    }
    Ok(data.into())
}

/// The entries of a directory, in order; with a pattern, those that match it.
pub(crate) fn read_dir(root: &Path, path: &str, pattern: &str) -> Result<Vec<Stat>, RemoteError> {
    let root = Root::open(root).map_err(|error| path_error("lstat", path, &error))?;
    let matcher = (!pattern.is_empty())
        .then(|| PatternMatcher::new([pattern]))
        .transpose()
        .map_err(|error| RemoteError::new(Kind::InvalidArgument, error.to_string()))?;
    let directory = root.sub_root(path).map_err(|error| path_error("lstat", path, &error))?;
    let entries = directory.read_dir(".").map_err(|error| path_error("open", path, &error))?;
    let (mut stats, mut size) = (Vec::new(), 0);
    for entry in entries {
        let name = String::from_utf8_lossy(entry.name.as_bytes()).into_owned();
        if let Some(matcher) = &matcher {
            let matches = matcher
                .matches_or_parent_matches(&name)
                .map_err(|error| RemoteError::new(Kind::InvalidArgument, error.to_string()))?;
            if !matches {
                continue;
            }
        }
        let handle =
            directory.resolve_no_follow(&entry.name).map_err(|error| path_error("lstat", &name, &error))?;
        let stat = handle.stat().map_err(|error| path_error("lstat", &name, &error))?;
        let link = if stat.kind == FileKind::Symlink {
            handle.readlink().map_err(|error| path_error("readlink", &name, &error))?
        } else {
            Default::default()
        };
        let stat = to_stat(name, &stat, String::from_utf8_lossy(link.as_bytes()).into_owned());
        size += (stat.path.len() + stat.linkname.len()) as u64 + STAT_SIZE;
        if size > READ_LIMIT {
            return Err(RemoteError::new(
                Kind::ResourceExhausted,
                format!("{path} has more entries than fit in {READ_LIMIT} bytes, list it with patterns"),
            ));
        }
        stats.push(stat);
    }
    Ok(stats)
}

/// What a path is; a symbolic link at its end is followed inside the root.
pub(crate) fn stat_file(root: &Path, path: &str) -> Result<Stat, RemoteError> {
    let root = Root::open(root).map_err(|error| path_error("lstat", path, &error))?;
    let stat = root.stat(path).map_err(|error| path_error("lstat", path, &error))?;
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    Ok(to_stat(name.to_owned(), &stat, String::new()))
}

fn to_stat(path: String, stat: &FileStat, linkname: String) -> Stat {
    let (is_device, major, minor) = match stat.kind {
        FileKind::CharDevice | FileKind::BlockDevice => {
            (true, rustix::fs::major(stat.rdev), rustix::fs::minor(stat.rdev))
        }
        _ => (false, 0, 0),
    };
    let size = if stat.kind == FileKind::Directory || is_device { 0 } else { stat.size };
    Stat {
        path,
        mode: mode::from_posix(stat.mode),
        uid: stat.uid,
        gid: stat.gid,
        size: i64::try_from(size).unwrap_or(i64::MAX),
        mod_time: stat
            .mtime
            .seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(stat.mtime.nanoseconds)),
        linkname,
        devmajor: i64::from(major),
        devminor: i64::from(minor),
        xattrs: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn read(root: &Path, path: &str, range: Option<(u64, u64)>) -> Result<usize, (Kind, String)> {
        let range = range.map(|(offset, length)| FileRange { offset, length });
        read_file(root, path, range).map(|data| data.len()).map_err(|error| (error.kind, error.message))
    }

    #[test]
    fn a2_19_only_regular_files_inside_are_read() {
        let (root, outside) = (tree(), tree());
        fs_err::write(outside.path().join("secret"), "x").expect("a file");
        fs_err::create_dir(root.path().join("dir")).expect("a directory");
        symlink(outside.path().join("secret"), root.path().join("out")).expect("a link");
        symlink("loop", root.path().join("loop")).expect("a link");
        // Whoever opens one waits for somebody who writes to it.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .expect("a FIFO");
        let not_regular = |path: &str| Err((Kind::InvalidArgument, format!("{path} is not a regular file")));
        for path in ["fifo", "dir", "/"] {
            assert_eq!(read(root.path(), path, None), not_regular(path));
        }
        for path in ["out", "../secret", "loop", "nothing", "", "a\0b"] {
            assert!(read(root.path(), path, None).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a4_04_what_one_call_returns_is_bounded() {
        let root = tree();
        let file = fs_err::File::create(root.path().join("large")).expect("a file");
        file.set_len(1 << 40).expect("a size");
        let (kind, text) = read(root.path(), "large", None).expect_err("too large");
        assert_eq!(kind, Kind::ResourceExhausted);
        assert!(text.contains("large is larger than"), "{text}");
        for (range, want) in [
            ((1 << 39, 10), 10),
            (((1 << 40) - 3, 10), 3),
            ((1 << 40, 10), 0),
            ((u64::MAX, 10), 0),
            ((0, 0), 0),
        ] {
            assert_eq!(read(root.path(), "large", Some(range)), Ok(want), "{range:?}");
        }
        assert!(read(root.path(), "large", Some((0, u64::MAX))).is_err());

        let name = |number: usize| format!("{number:0>240}");
        for number in 0..50_000 {
            fs_err::write(root.path().join(name(number)), "").expect("a file");
        }
        let error = read_dir(root.path(), "/", "").expect_err("too many");
        assert_eq!(error.kind, Kind::ResourceExhausted);
        assert!(error.message.contains("/ has more entries than"), "{}", error.message);
        assert_eq!(read_dir(root.path(), "/", "*00").expect("a part of them").len(), 500);
    }
}
