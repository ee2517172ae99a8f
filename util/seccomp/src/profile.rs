use serde::Deserialize;

/// The `linux.seccomp` part of an OCI configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Profile {
    /// What happens to calls that no rule matches: `SCMP_ACT_…`.
    pub default_action: String,
    /// The error number of a default action that has one.
    #[serde(default)]
    pub default_errno_ret: Option<u32>,
    /// Architectures besides the native one by which calls may be made: `SCMP_ARCH_…`.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// What happens to which calls.
    #[serde(default)]
    pub syscalls: Vec<Rule>,
    /// Flags of `seccomp(2)`: `SECCOMP_FILTER_FLAG_…`.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// What happens to some calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// Names of the calls. Those that an architecture does not have are passed over.
    pub names: Vec<String>,
    /// What happens: `SCMP_ACT_…`.
    pub action: String,
    /// The error number of an action that has one.
    #[serde(default)]
    pub errno_ret: Option<u32>,
    /// Conditions, all of which must hold; if two are for the same argument, one of them must.
    #[serde(default)]
    pub args: Vec<Argument>,
}

/// A condition of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Argument {
    /// Which argument, from 0 to 5.
    pub index: u32,
    /// What it is compared with, or the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// What the masked argument is compared with.
    #[serde(default)]
    pub value_two: u64,
    /// How it is compared: `SCMP_CMP_…`.
    pub op: String,
}

/// One instruction of a classic BPF program, laid out as `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions a jump passes over if its condition holds.
    pub jt: u8,
    /// How many it passes over otherwise.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Why a profile cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of the profile's architectures.
    #[error("seccomp architecture {0:?} is not supported")]
    Architecture(String),
    /// The architecture of this binary.
    #[error("seccomp profiles are not supported on {}", std::env::consts::ARCH)]
    Host,
    /// One of `seccomp(2)`.
    #[error("seccomp flag {0:?} is not supported")]
    Flag(String),
    /// Not an action, or one that needs a listener.
    #[error("seccomp action {0:?} is not supported")]
    Action(String),
    /// Not a comparison.
    #[error("seccomp operator {0:?} is unknown")]
    Operator(String),
    /// Calls have six arguments.
    #[error("system calls have no argument of index {0}")]
    ArgumentIndex(u32),
    /// More than 16 bits.
    #[error("seccomp error number {0} is too large")]
    ErrorNumber(u32),
    /// A rule names a call "".
    #[error("the name of a system call in the seccomp profile is empty")]
    EmptyName,
    /// The same conditions have different actions.
    #[error("rules of the seccomp profile for system call {number} of {architecture} contradict each other")]
    Conflict {
        /// The number of the call.
        number: u32,
        /// Where it has this number.
        architecture: &'static str,
    },
    /// The kernel takes 4096 instructions.
    #[error("the seccomp profile has too many rules for the kernel")]
    TooLong,
}
