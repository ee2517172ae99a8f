use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;

/// A copy of a program in memory that nobody can change, to be executed in place of the program's file: what a container
/// executes can reach the file of the program that started it (CVE-2019-5736). Closed on exec.
///
/// # Errors
/// When the file cannot be read, or the kernel makes no such files.
pub fn sealed_copy(program: &mut File, name: &str) -> io::Result<OwnedFd> {
    program.rewind()?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create(name, flags | MemfdFlags::EXEC) {
        // Linux before 6.3 does not know that flag.
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    }?;
    let mut memory = File::from(memory);
    io::copy(program, &mut memory)?;
    fcntl_add_seals(&memory, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(memory.into())
}

/// Whether a file is one that nobody can change any more.
pub fn is_sealed(file: &File) -> bool {
    // Files elsewhere than in memory have no seals.
    fcntl_get_seals(file)
        .is_ok_and(|seals| seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a2_01_copies_cannot_be_changed() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"program").expect("written");
        assert!(!is_sealed(&file));
        let mut copy = File::from(sealed_copy(&mut file, "x").expect("copied"));
        assert!(is_sealed(&copy));
        assert!(copy.write_all(b"other").is_err() && copy.set_len(0).is_err());
        let mut text = String::new();
        copy.rewind().expect("rewound");
        copy.read_to_string(&mut text).expect("read");
        assert_eq!(text, "program");
    }
}
