//! Which interfaces of its processor the kernel serves.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;
use rustix::io::Errno;

/// A program for x32, the interface of x86-64 with pointers of 32 bits: an ELF header, one segment, and
/// `exit(0)`.
const PROGRAM: [u8; 93] = [
    0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 32 bits, little-endian
    2, 0, 62, 0, 1, 0, 0, 0, // an executable for x86-64
    0x54, 0, 0x40, 0, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // entry, and where the segments are told
    0x34, 0, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0, // sizes of headers
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0x40, 0, // all of the file at 0x400000
    0x5d, 0, 0, 0, 0x5d, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0, // to be read and executed
    0xb8, 0x3c, 0, 0, 0x40, // mov eax, __X32_SYSCALL_BIT + 60
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];

/// Whether the kernel runs programs for x32. Few do, and a filter of system calls that covers x32 costs each
/// container some milliseconds. Runs a program from a file in `dir`, which is removed; if it cannot be known,
/// the answer is yes. Blocks.
pub fn runs_x32(dir: &Path) -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    let path = dir.join("x32");
    let run = || -> io::Result<std::process::ExitStatus> {
        fs::write(&path, PROGRAM)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o700))?;
        let mut command = Command::new(&path);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    let result = run();
    let _ = fs::remove_file(&path);
    match result {
        // A shell that was tried instead fails with a code.
        Ok(status) => status.code().is_none_or(|code| code == 0),
        Err(error) => error.raw_os_error() != Some(Errno::NOEXEC.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_leaves_nothing_and_agrees_with_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(runs_x32(dir.path()), runs_x32(dir.path()));
        assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0);
        // As a program of 64 bits would be started: what is not there cannot be known.
        assert_eq!(runs_x32(&dir.path().join("missing")), cfg!(target_arch = "x86_64"));
    }

    #[test]
    fn the_program_is_as_long_as_it_says() {
        assert_eq!(usize::from(PROGRAM[0x34 + 16]), PROGRAM.len());
        assert_eq!(u16::from_le_bytes([PROGRAM[18], PROGRAM[19]]), 62, "EM_X86_64");
    }
}
