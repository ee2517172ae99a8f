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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_space() {
        let dir = tempfile::tempdir().expect("temp dir");
        let space = space(dir.path()).expect("statvfs");
        assert!(space.total > 0 && space.available <= space.free && space.free <= space.total);
        assert!(super::space(&dir.path().join("nothing")).is_err());
    }
}
