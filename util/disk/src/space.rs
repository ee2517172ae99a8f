use std::io;
use std::path::Path;

/// Capacity of a file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All blocks.
    pub total: u64,
    /// Blocks that nobody uses, those kept for root included.
    pub free: u64,
    /// Blocks that a user other than root can get.
    pub available: u64,
}

/// The space of the file system that holds `path`, from statvfs(3).
///
/// # Errors
/// When the path cannot be reached.
pub fn space(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Space {
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bfree.saturating_mul(stat.f_frsize),
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

/// Programs rarely take the very last bytes, and what failed has given a little back: less than this is nothing.
const NO_BYTES: u64 = 64 << 10;
/// As for bytes.
const NO_FILES: u64 = 64;

/// Whether the file system that holds `path` has no room for more data or for more files.
///
/// # Errors
/// When the path cannot be reached.
pub fn is_full(path: &Path) -> io::Result<bool> {
    let stat = rustix::fs::statvfs(path)?;
    // Some file systems make room for files as they come and count none.
    let no_files = stat.f_files > 0 && stat.f_ffree < NO_FILES;
    Ok(no_files || stat.f_bfree.saturating_mul(stat.f_frsize) < NO_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_space() {
        let dir = tempfile::tempdir().expect("temp dir");
        let space = space(dir.path()).expect("statvfs");
        assert!(space.total > 0 && space.available <= space.free && space.free <= space.total);
        assert!(!is_full(dir.path()).expect("statvfs"));
        assert!(super::space(&dir.path().join("nothing")).is_err());
    }
}
