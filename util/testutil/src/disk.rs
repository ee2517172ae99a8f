//! Small disks, to be filled.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Written at once while a disk is filled.
const BLOCK: usize = 64 << 10;

/// A file system in memory with a size of its own, mounted until it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of this many bytes, and of so many files if a number is given, on a directory that is made.
    ///
    /// # Panics
    /// When it cannot be mounted: that takes root.
    pub fn mount(path: &Path, bytes: u64, files: Option<u64>) -> Self {
        fs_err::create_dir_all(path).expect("mount point of a small disk");
        let files = files.map(|files| format!(",nr_inodes={files}")).unwrap_or_default();
        let options = std::ffi::CString::new(format!("size={bytes},mode=0700{files}")).expect("options");
        mount("small-disk", path, "tmpfs", MountFlags::empty(), options.as_c_str())
            .unwrap_or_else(|error| panic!("no file system on {}: {error}", path.display()));
        Self { path: path.to_owned() }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all its space but `leave` bytes, until [`Self::free`].
    ///
    /// # Panics
    /// When it cannot be filled.
    pub fn fill(&self, leave: u64) {
        let path = self.filler();
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(path).expect("filler");
        let block = vec![1u8; BLOCK];
        for size in [BLOCK, 1] {
            loop {
                match file.write(&block[..size]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("failed to fill {}: {error}", self.path.display()),
                }
            }
        }
        let full = file.metadata().expect("size of the filler").len();
        file.set_len(full.saturating_sub(leave)).expect("a smaller filler");
    }

    /// Gives the space back that [`Self::fill`] took.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free(&self) {
        fs_err::remove_file(self.filler()).expect("remove the filler");
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_and_has_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(&dir.path().join("disk"), 1 << 20, None);
        let file = disk.path().join("file");
        disk.fill(0);
        let error = fs_err::write(&file, [0; 8192]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        disk.free();
        fs_err::write(&file, [0; 8192]).unwrap();
        drop(disk);
        assert!(!file.exists());
    }
}
