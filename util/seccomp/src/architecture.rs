//! Architectures, and their numbers of system calls.

use std::str::FromStr;

use crate::Error;

/// An architecture whose calls the machine takes, by the names of the specification.
///
/// Only those are known that go together with the one that this is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(dead_code, reason = "each is made on its own kind of machine only")]
pub(crate) enum Architecture {
    X86_64,
    X86,
    /// Programs with short pointers on x86-64, whose numbers have a mark.
    X32,
    Aarch64,
    Arm,
    Riscv64,
}

/// Calls that x32 has at numbers of its own, from 512 on (`syscall_64.tbl` of the kernel).
#[cfg(target_arch = "x86_64")]
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Calls of 32 bit ARM that lie apart from the others (`asm/unistd.h` of the kernel).
#[cfg(target_arch = "aarch64")]
const ARM_OWN: [(&str, u32); 7] = [
    ("breakpoint", 0xf_0001),
    ("cacheflush", 0xf_0002),
    ("usr26", 0xf_0003),
    ("usr32", 0xf_0004),
    ("set_tls", 0xf_0005),
    ("get_tls", 0xf_0006),
    // Another name of sync_file_range2.
    ("arm_sync_file_range", 341),
];

impl Architecture {
    /// What distinguishes numbers of x32.
    pub(crate) const X32_MARK: u32 = 0x4000_0000;

    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        match name {
            #[cfg(target_arch = "x86_64")]
            "SCMP_ARCH_X86_64" => Ok(Self::X86_64),
            #[cfg(target_arch = "x86_64")]
            "SCMP_ARCH_X86" => Ok(Self::X86),
            #[cfg(target_arch = "x86_64")]
            "SCMP_ARCH_X32" => Ok(Self::X32),
            #[cfg(target_arch = "aarch64")]
            "SCMP_ARCH_AARCH64" => Ok(Self::Aarch64),
            #[cfg(target_arch = "aarch64")]
            "SCMP_ARCH_ARM" => Ok(Self::Arm),
            #[cfg(target_arch = "riscv64")]
            "SCMP_ARCH_RISCV64" => Ok(Self::Riscv64),
            _ => Err(Error::Unknown("architecture", name.to_owned())),
        }
    }

    /// The one that this is compiled for, if it is known.
    pub(crate) fn native() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return Some(Self::X86_64);
        #[cfg(target_arch = "aarch64")]
        return Some(Self::Aarch64);
        #[cfg(target_arch = "riscv64")]
        return Some(Self::Riscv64);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
        return None;
    }

    /// Its name towards programs: `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether its programs have arguments of 64 bits. The kernel takes less of others, whatever their registers hold.
    pub(crate) fn is_wide(self) -> bool {
        !matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }

    /// Where its numbers begin.
    pub(crate) fn first_number(self) -> u32 {
        if self == Self::X32 { Self::X32_MARK } else { 0 }
    }

    /// The number of a call, if it has that.
    pub(crate) fn number(self, name: &str) -> Option<u32> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::X86_64 => syscalls::x86_64::Sysno::from_str(name).ok().map(|call| call as u32),
            #[cfg(target_arch = "x86_64")]
            Self::X86 => syscalls::x86::Sysno::from_str(name).ok().map(|call| call as u32),
            #[cfg(target_arch = "x86_64")]
            Self::X32 => {
                let own = (512..).zip(X32_OWN).find(|(_, own)| *own == name).map(|(number, _)| number);
                own.or_else(|| Self::X86_64.number(name)).map(|number| number | Self::X32_MARK)
            }
            #[cfg(target_arch = "aarch64")]
            Self::Aarch64 => syscalls::aarch64::Sysno::from_str(name).ok().map(|call| call as u32),
            #[cfg(target_arch = "aarch64")]
            Self::Arm => {
                let own = ARM_OWN.iter().find(|(own, _)| *own == name).map(|(_, number)| *number);
                own.or_else(|| syscalls::arm::Sysno::from_str(name).ok().map(|call| call as u32))
            }
            #[cfg(target_arch = "riscv64")]
            Self::Riscv64 => syscalls::riscv64::Sysno::from_str(name).ok().map(|call| call as u32),
            _ => None,
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        use Architecture::{X32, X86, X86_64};
        for (name, expect) in [
            ("read", [Some(0), Some(3), Some(0x4000_0000)]),
            ("execve", [Some(59), Some(11), Some(0x4000_0000 + 520)]),
            ("pwritev2", [Some(328), Some(379), Some(0x4000_0000 + 547)]),
            ("socketcall", [None, Some(102), None]),
            ("clone3", [Some(435), Some(435), Some(0x4000_0000 + 435)]),
            ("no_such_call", [None; 3]),
            ("", [None; 3]),
        ] {
            assert_eq!([X86_64, X86, X32].map(|architecture| architecture.number(name)), expect, "{name}");
        }
        assert!(Architecture::parse("SCMP_ARCH_MIPS").is_err());
    }
}
