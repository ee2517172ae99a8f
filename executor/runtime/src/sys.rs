//! System calls that rustix does not have, or not as safe as they are here.
#![expect(unsafe_code, reason = "each call says why it is sound")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null;

use buildkit_util_seccomp::Instruction;
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Birth in a control group, from `linux/sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Proof of being in a process that [`fork`] has made, which ends without returning to what its copy of the stack holds.
#[derive(Debug)]
pub(crate) struct Forked(());

/// Makes a process with namespaces of its own, born in a control group of version 2 if one is given. It does `work` and
/// ends. Returns its id.
///
/// # Errors
/// When this process has more than one thread: the new one would not have the others, and what they hold locked would stay
/// locked there.
pub(crate) fn fork(
    namespaces: UnshareFlags,
    cgroup: Option<BorrowedFd<'_>>,
    work: impl FnOnce(Forked) -> i32,
) -> io::Result<Pid> {
    if fs_err::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot run containers"));
    }
    let into_cgroup = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    // SAFETY: it is plain data, and zeros mean "not asked for" in every field.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.bits()) | into_cgroup;
    args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    args.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd().cast_unsigned().into());
    // SAFETY: `args` lives through the call and its size is told. Without CLONE_VM and a stack the new process goes on
    // with a copy of this one, like after fork(2), which is sound because there was one thread.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) })?;
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) => Ok(pid),
        None => {
            // A panic must not get to what the other process has on its stack.
            let work = std::panic::AssertUnwindSafe(|| work(Forked(())));
            exit_now(std::panic::catch_unwind(work).unwrap_or(1))
        }
    }
}

/// Ends the process at once: no buffer is written, nothing is dropped.
fn exit_now(status: i32) -> ! {
    // SAFETY: it takes no memory and does not return.
    unsafe { libc::_exit(status) }
}

/// Changes what a mount allows; with `recursive`, also the mounts below it.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    set: MountAttrFlags,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: u64::from(set.bits()), attr_clr: clear, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a string of C, and `attributes` lives through the call with its size told.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Closes all descriptors from the third one on but those in `keep`, whoever has them: the copies of what the other
/// process had open are not used and not dropped here.
pub(crate) fn close_others(_: &Forked, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let keep = keep.iter().map(AsRawFd::as_raw_fd);
    let mut keep: Vec<u32> = keep.map(i32::cast_unsigned).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3;
    for last in keep.into_iter().map(Some).chain([None]) {
        let end = last.map_or(u32::MAX, |kept| kept - 1);
        if first <= end {
            // SAFETY: it takes no memory. Nobody uses these descriptors any more, as said above.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, end, 0) })?;
        }
        first = last.map_or(u32::MAX, |kept| kept + 1);
    }
    Ok(())
}

/// Closes one more of those that were kept.
pub(crate) fn close_kept(_: &Forked, kept: BorrowedFd<'_>) {
    // SAFETY: its owner is in a frame of the other process' copy, which is not returned to.
    unsafe { rustix::io::close(kept.as_raw_fd()) }
}

/// Makes the groups of this moment the root of what the process sees of control groups.
pub(crate) fn unshare_cgroups() -> rustix::io::Result<()> {
    // SAFETY: this process has one thread, and such a namespace is about what the kernel shows it alone.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }
}

/// Lets the process reach itself by the network: in a new namespace even that interface is off.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    // SAFETY: it takes no memory.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(socket.into())?;
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: it is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *place = byte.cast_signed();
    }
    // A number of the interface's flags of this size on each platform.
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: the name ends with a zero, flags are what this call reads, and both live through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// Gives the process a session keyring of its own, which nobody else has. Kernels without keys are fine.
pub(crate) fn join_new_keyring() -> io::Result<()> {
    // SAFETY: without a name there is no memory to read.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, null::<u8>()) }) {
        Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => Err(error),
        _ => Ok(()),
    }
}

/// Filters the system calls of the process from now on, also those of what it executes.
pub(crate) fn set_seccomp(program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let set = |flags: libc::c_ulong| {
        // SAFETY: `Instruction` has the layout of `sock_filter`; the kernel reads `length` of them and writes none.
        check(unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        })
    };
    // Linux before 5.16 makes filtered processes slow to keep them from a way of speculation, unless it is told not to.
    set(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW).or_else(|_| set(0)).map(drop)
}

/// Blocks all signals, so that they can be read from the descriptor that is returned. Closed on exec.
pub(crate) fn take_signals() -> io::Result<OwnedFd> {
    // SAFETY: a set of signals is plain data, and each call gets pointers to it that live through the call.
    let fd = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        // Whoever started this process may have ignored it, and nobody would tell of the end of a child.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()).into())?;
        libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    check(fd.into())?;
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal, if one has come.
pub(crate) fn next_signal(signals: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0_u8; SIZE];
    match rustix::io::read(signals, &mut buffer) {
        Ok(SIZE) => {
            let number = buffer.first_chunk().map_or(0, |number| u32::from_ne_bytes(*number));
            Ok(Some(number.cast_signed()))
        }
        Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal by its number, which may be a real-time one.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: it takes no memory.
    check(unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) }.into()).map(drop)
}

/// Undoes what this process, and who started it, does with signals: a program starts with the defaults, and none blocked.
pub(crate) fn reset_signals() -> io::Result<()> {
    /// Signals that the kernel knows, which are as many as its sets have bits.
    const SIGNALS: libc::c_int = 64;
    /// The kernel's own form of an action, at least as long as that of each platform. Zeros are SIG_DFL.
    const DEFAULT: [u64; 8] = [0; 8];
    for signal in 1..=SIGNALS {
        // By the system call, because the C library keeps two of them for itself. KILL and STOP cannot be set.
        // SAFETY: the kernel reads an action of its own form and writes none; SIG_DFL runs no code of this process.
        let _ = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), null::<u8>(), size_of::<u64>())
        };
    }
    // SAFETY: a set of signals is plain data, and each call gets pointers to it that live through the call.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()).into()).map(drop)
    }
}

/// Replaces the program of this process; returns only when that fails.
pub(crate) fn execute(path: &CStr, args: &[&CStr], env: &[&CStr]) -> io::Error {
    let pointers = |strings: &[&CStr]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end with a null pointer, and all strings live through the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}
