//! The system call `bpf`, as far as it is needed here.
#![expect(unsafe_code, reason = "no library at hand has this system call")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::Instruction;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above and below are asked, too, and all have to grant.
const ALLOW_MULTI: u32 = 2;

/// The beginning of `union bpf_attr` for loading; the kernel takes the rest as zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same for attaching.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Has the kernel check and keep a program for devices.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let count = u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attributes are those of this command, without padding; the kernel only reads them,
    // `count` instructions of its own layout, and the license up to its NUL. All live until it returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size_of::<Load>()) };
    let descriptor = descriptor(result)?;
    // SAFETY: the kernel has just made this descriptor, for us alone (and closed on exec, as always).
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Has the kernel run a program for a group.
pub(super) fn attach(program: &OwnedFd, group: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Attach {
        // Descriptors that are open are not negative.
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_TYPE_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the attributes are those of this command, without padding, and the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attributes, size_of::<Attach>()) };
    descriptor(result).map(|_| ())
}

fn descriptor(result: libc::c_long) -> io::Result<RawFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}
