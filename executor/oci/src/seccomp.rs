//! The default system call filter.
//!
//! Its verdicts are those of the default profile of Moby (github.com/moby/profiles, `seccomp`), which
//! users know from Docker, for the capabilities of the container.

use rustix::io::Errno;

use crate::spec::{Seccomp, SeccompArg, SyscallRule};

/// Calls that any container may make, on whichever architecture they exist. The filter library
/// passes over names that it does not know.
const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod \
    chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range \
    creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
    epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 \
    fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat \
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 \
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents \
    getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid \
    getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 \
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get \
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr \
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat \
    mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal \
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv \
    process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink \
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr \
    removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
    sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 \
    sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid \
    setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 \
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid \
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx \
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 \
    ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork \
    vmsplice wait4 waitid waitpid write writev";

/// Calls that one architecture or another has, by names of `std::env::consts::ARCH`.
const BY_ARCH: [(&[&str], &str); 6] = [
    (&["powerpc64"], "swapcontext sync_file_range2"),
    (
        &["arm", "aarch64"],
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
    (&["x86_64"], "arch_prctl"),
    (&["x86_64", "x86"], "modify_ldt"),
    (&["s390x"], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (&["riscv64"], "riscv_flush_icache"),
];

/// Calls that a capability allows.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Values of `personality(2)` that programs use: none, `UNAME26`, `PER_LINUX32`, both, and a query.
const PERSONALITIES: [u64; 5] = [0, 0x2_0000, 0x8, 0x2_0008, 0xffff_ffff];

/// Address families of `socket(2)` that are refused: both have given attackers the kernel.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Flags of `clone(2)` that make namespaces.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

fn allow(names: impl IntoIterator<Item = &'static str>) -> SyscallRule {
    SyscallRule {
        names: names.into_iter().collect(),
        action: "SCMP_ACT_ALLOW",
        errno_ret: None,
        args: Vec::new(),
    }
}

fn allow_if(name: &'static str, index: u32, op: &'static str, value: u64) -> SyscallRule {
    SyscallRule { args: vec![SeccompArg { index, value, value_two: 0, op }], ..allow([name]) }
}

const X32: &str = "SCMP_ARCH_X32";

/// Names of the architectures whose calls the kernel of `arch` takes, the native one first.
fn architectures(arch: &str) -> &'static [&'static str] {
    match arch {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", X32],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "mips64" if cfg!(target_endian = "little") => {
            &["SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"]
        }
        "mips64" => &["SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        "loongarch64" => &["SCMP_ARCH_LOONGARCH64"],
        // The filter library adds the native one by itself.
        _ => &[],
    }
}

/// The filter for a process with these capabilities in its bounding set. Without `x32` it knows nothing of
/// that interface, and whoever uses it is killed: for kernels that do not have it.
pub fn default_profile(capabilities: &[&str], x32: bool) -> Seccomp {
    let mut profile = profile_for(std::env::consts::ARCH, capabilities);
    profile.architectures.retain(|name| x32 || *name != X32);
    profile
}

fn profile_for(arch: &str, capabilities: &[&str]) -> Seccomp {
    let has = |capability: &str| capabilities.contains(&capability);
    let by_arch = BY_ARCH.iter().filter(|(arches, _)| arches.contains(&arch)).map(|(_, names)| *names);
    let by_capability =
        BY_CAPABILITY.iter().filter(|(capability, _)| has(capability)).map(|(_, names)| *names);
    let mut names: Vec<&str> =
        std::iter::once(ALWAYS).chain(by_arch).chain(by_capability).flat_map(str::split_whitespace).collect();
    names.sort_unstable();
    names.dedup();
    let mut syscalls = vec![
        allow(names),
        allow_if("socket", 0, "SCMP_CMP_LT", AF_ALG),
        allow_if("socket", 0, "SCMP_CMP_EQ", AF_ALG + 1),
        allow_if("socket", 0, "SCMP_CMP_GT", AF_VSOCK),
    ];
    syscalls.extend(PERSONALITIES.map(|value| allow_if("personality", 0, "SCMP_CMP_EQ", value)));
    if !has("CAP_SYS_ADMIN") {
        // The flags are the second argument of clone on s390.
        let index = u32::from(arch == "s390x");
        syscalls.push(allow_if("clone", index, "SCMP_CMP_MASKED_EQ", CLONE_NAMESPACES));
        // Its flags are behind a pointer: "not there" makes libraries fall back to clone.
        let errno_ret = Some(Errno::NOSYS.raw_os_error().unsigned_abs());
        syscalls.push(SyscallRule { action: "SCMP_ACT_ERRNO", errno_ret, ..allow(["clone3"]) });
    }
    Seccomp {
        default_action: "SCMP_ACT_ERRNO",
        default_errno_ret: Some(Errno::PERM.raw_os_error().unsigned_abs()),
        architectures: architectures(arch).to_vec(),
        syscalls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps::DEFAULT_CAPABILITIES;

    /// What a call with one argument gets: `None` is allowed, else the error number.
    fn verdict(profile: &Seccomp, name: &str, index: u32, value: u64) -> Option<u32> {
        for rule in profile.syscalls.iter().filter(|rule| rule.names.contains(&name)) {
            let matches = rule.args.iter().all(|arg| {
                arg.index != index
                    || match arg.op {
                        "SCMP_CMP_LT" => value < arg.value,
                        "SCMP_CMP_EQ" => value == arg.value,
                        "SCMP_CMP_GT" => value > arg.value,
                        "SCMP_CMP_MASKED_EQ" => value & arg.value == arg.value_two,
                        other => panic!("operator {other}"),
                    }
            });
            if matches {
                return if rule.action == "SCMP_ACT_ALLOW" { None } else { rule.errno_ret };
            }
        }
        profile.default_errno_ret
    }

    #[test]
    fn a4_16_verdicts_for_the_default_capabilities() {
        let profile = profile_for("x86_64", &DEFAULT_CAPABILITIES);
        let (perm, nosys) = (Some(1), Some(38));
        for (name, value, expect) in [
            ("read", 0, None),
            ("ptrace", 0, None),
            ("chroot", 0, None),
            ("arch_prctl", 0, None),
            ("keyctl", 0, perm),
            ("add_key", 0, perm),
            ("request_key", 0, perm),
            ("userfaultfd", 0, perm),
            ("io_uring_setup", 0, perm),
            ("io_uring_enter", 0, perm),
            ("perf_event_open", 0, perm),
            ("bpf", 0, perm),
            ("mount", 0, perm),
            ("unshare", 0, perm),
            ("setns", 0, perm),
            ("kexec_load", 0, perm),
            ("open_by_handle_at", 0, perm),
            ("riscv_flush_icache", 0, perm),
            ("socket", 2, None),
            ("socket", 38, perm),
            ("socket", 39, None),
            ("socket", 40, perm),
            ("socket", 41, None),
            ("personality", 0, None),
            ("personality", 0x4_0000, perm),
            ("clone", 0x11, None),
            ("clone", 0x1000_0000, perm),
            ("clone3", 0, nosys),
        ] {
            assert_eq!(verdict(&profile, name, 0, value), expect, "{name} {value:#x}");
        }
        let admin = profile_for("x86_64", &["CAP_SYS_ADMIN"]);
        for name in ["mount", "clone3", "clone", "bpf"] {
            assert_eq!(verdict(&admin, name, 0, 0x1000_0000), None, "{name}");
        }
        assert_eq!(verdict(&profile_for("s390x", &[]), "clone", 1, 0x1000_0000), perm);
        assert_eq!(verdict(&admin, "chroot", 0, 0), perm);
    }
}
