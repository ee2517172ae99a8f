//! Numbers of system calls.

use syscalls::{aarch64, arm, loongarch64, powerpc64, riscv64, x86, x86_64};

/// What x32 calls have in their numbers besides those of x86_64.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Ppc64le,
    Loongarch64,
}

/// Calls of x86_64 that have numbers of their own on x32, from 512 on.
const X32_OWN: [x86_64::Sysno; 36] = {
    use x86_64::Sysno as S;
    [
        S::rt_sigaction,
        S::rt_sigreturn,
        S::ioctl,
        S::readv,
        S::writev,
        S::recvfrom,
        S::sendmsg,
        S::recvmsg,
        S::execve,
        S::ptrace,
        S::rt_sigpending,
        S::rt_sigtimedwait,
        S::rt_sigqueueinfo,
        S::sigaltstack,
        S::timer_create,
        S::mq_notify,
        S::kexec_load,
        S::waitid,
        S::set_robust_list,
        S::get_robust_list,
        S::vmsplice,
        S::move_pages,
        S::preadv,
        S::pwritev,
        S::rt_tgsigqueueinfo,
        S::recvmmsg,
        S::sendmmsg,
        S::process_vm_readv,
        S::process_vm_writev,
        S::setsockopt,
        S::getsockopt,
        S::io_setup,
        S::io_submit,
        S::execveat,
        S::preadv2,
        S::pwritev2,
    ]
};

/// Calls of x86_64 that x32 does not have.
const X32_NOT: [x86_64::Sysno; 11] = {
    use x86_64::Sysno as S;
    [
        S::uselib,
        S::_sysctl,
        S::create_module,
        S::get_kernel_syms,
        S::query_module,
        S::nfsservctl,
        S::set_thread_area,
        S::get_thread_area,
        S::epoll_ctl_old,
        S::epoll_wait_old,
        S::vserver,
    ]
};

/// Calls that the kernel of arm keeps apart from the others.
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0xf_0001),
    ("cacheflush", 0xf_0002),
    ("usr26", 0xf_0003),
    ("usr32", 0xf_0004),
    ("set_tls", 0xf_0005),
    ("get_tls", 0xf_0006),
];

/// `socketcall` and `ipc`.
const SOCKET: u32 = 102;
const IPC: u32 = 117;
const MULTIPLEXED: [(&str, u32, u8); 32] = [
    ("socket", SOCKET, 1),
    ("bind", SOCKET, 2),
    ("connect", SOCKET, 3),
    ("listen", SOCKET, 4),
    ("accept", SOCKET, 5),
    ("getsockname", SOCKET, 6),
    ("getpeername", SOCKET, 7),
    ("socketpair", SOCKET, 8),
    ("send", SOCKET, 9),
    ("recv", SOCKET, 10),
    ("sendto", SOCKET, 11),
    ("recvfrom", SOCKET, 12),
    ("shutdown", SOCKET, 13),
    ("setsockopt", SOCKET, 14),
    ("getsockopt", SOCKET, 15),
    ("sendmsg", SOCKET, 16),
    ("recvmsg", SOCKET, 17),
    ("accept4", SOCKET, 18),
    ("recvmmsg", SOCKET, 19),
    ("sendmmsg", SOCKET, 20),
    ("semop", IPC, 1),
    ("semget", IPC, 2),
    ("semctl", IPC, 3),
    ("semtimedop", IPC, 4),
    ("msgsnd", IPC, 11),
    ("msgrcv", IPC, 12),
    ("msgget", IPC, 13),
    ("msgctl", IPC, 14),
    ("shmat", IPC, 21),
    ("shmdt", IPC, 22),
    ("shmget", IPC, 23),
    ("shmctl", IPC, 24),
];

/// `iter` of the tables leaves out the last call.
macro_rules! each {
    ($table:ident, $call:expr) => {
        for id in $table::Sysno::first().id()..=$table::Sysno::last().id() {
            if let Some(sysno) = usize::try_from(id).ok().and_then($table::Sysno::new) {
                $call(sysno.name(), id.unsigned_abs());
            }
        }
    };
}

impl Arch {
    pub(crate) const ALL: [Self; 8] = [
        Self::X86_64,
        Self::X86,
        Self::X32,
        Self::Aarch64,
        Self::Arm,
        Self::Riscv64,
        Self::Ppc64le,
        Self::Loongarch64,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
            Self::Ppc64le => "SCMP_ARCH_PPC64LE",
            Self::Loongarch64 => "SCMP_ARCH_LOONGARCH64",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// The one of this binary. The programs read arguments as little-endian hosts have them.
    pub(crate) fn native() -> Option<Self> {
        if cfg!(target_endian = "big") {
            return None;
        }
        match std::env::consts::ARCH {
            "x86_64" if cfg!(target_pointer_width = "64") => Some(Self::X86_64),
            "x86" => Some(Self::X86),
            "aarch64" => Some(Self::Aarch64),
            "arm" => Some(Self::Arm),
            "riscv64" => Some(Self::Riscv64),
            "powerpc64" => Some(Self::Ppc64le),
            "loongarch64" => Some(Self::Loongarch64),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_…`, which the kernel gives to the filter.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::Ppc64le => 0xc000_0015,
            Self::Loongarch64 => 0xc000_0102,
        }
    }

    /// Whether the high halves of arguments count.
    pub(crate) fn is_wide(self) -> bool {
        !matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }

    /// Calls `call` with the name and the number of each call.
    pub(crate) fn each(self, mut call: impl FnMut(&'static str, u32)) {
        match self {
            Self::X86_64 => each!(x86_64, call),
            Self::X86 => each!(x86, call),
            Self::X32 => {
                let mut own = [None; 512];
                for (number, sysno) in (512..).zip(X32_OWN) {
                    own[sysno as usize] = Some(number);
                }
                for sysno in X32_NOT {
                    own[sysno as usize] = Some(0);
                }
                each!(x86_64, |name, number: u32| match own.get(number as usize).copied().flatten() {
                    Some(0) => {}
                    Some(own) => call(name, own | X32_BIT),
                    None => call(name, number | X32_BIT),
                });
            }
            Self::Aarch64 => each!(aarch64, |name, number| generic(name, number, &mut call)),
            Self::Loongarch64 => each!(loongarch64, |name, number| generic(name, number, &mut call)),
            Self::Arm => {
                each!(arm, call);
                for (name, number) in ARM_PRIVATE {
                    call(name, number);
                }
            }
            Self::Riscv64 => each!(riscv64, call),
            Self::Ppc64le => each!(powerpc64, call),
        }
    }

    /// Calls that can be made through a multiplexer, too: their names, the number of the multiplexer, and
    /// what its first argument is.
    pub(crate) fn multiplexed(self) -> &'static [(&'static str, u32, u8)] {
        if matches!(self, Self::X86 | Self::Ppc64le) { &MULTIPLEXED } else { &[] }
    }

    pub(crate) fn is_multiplexer(self, number: u32) -> bool {
        self.multiplexed().iter().any(|(_, multiplexer, _)| *multiplexer == number)
    }
}

/// The tables of the 64-bit architectures without calls of their own hold names of the generic table for
/// 32 bits, too.
fn generic(name: &'static str, number: u32, call: &mut impl FnMut(&'static str, u32)) {
    match (name, number) {
        (_, 403..=423) => {}
        ("fstatat", _) => call("newfstatat", number),
        _ => call(name, number),
    }
}
