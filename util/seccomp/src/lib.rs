//! Compiles the seccomp profiles of OCI configurations, without libseccomp.
//!
//! [`compile`] makes of a [`Profile`] the program that seccomp(2) takes. Its verdicts are those of the program that runc
//! has libseccomp make of the same profile, which takes it 4 ms; here it is a twentieth of one:
//!
//! - A call of an architecture that the profile does not list, but for the machine's own, ends its thread.
//! - Calls of names that an architecture does not have are no concern of it.
//! - A rule with the default action is left out. A rule without conditions holds whatever others say of the call.
//! - Conditions of a rule must all hold, unless two of them are about the same argument: then one of them is enough.
//! - Unless the default lets calls pass, one with a number above all those that the profile names fails with `ENOSYS`: the
//!   profile is older than the call, and programs that try something new go on with something else then.
//!
//! One thing differs: rules for sockets and System V IPC on 32 bit x86 do not let pass the same work done by `socketcall`
//! and `ipc`, which have rules of their own in each profile that is in use.
//!
//! Source of the format: the OCI Runtime Specification 1.0.2, `config-linux.md`, section "Seccomp"; of the programs:
//! seccomp(2) and `linux/filter.h`.
#![forbid(unsafe_code)]

mod architecture;
mod assembler;
mod profile;
#[cfg(test)]
mod tests;

pub use assembler::Instruction;
pub use profile::{Argument, Profile, Rule};

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::Architecture;
use crate::assembler::{Block, Segment, Target};
use crate::profile::{Action, Condition};

/// Instructions that the kernel takes at most.
const MAX_INSTRUCTIONS: usize = 4096;

/// Number of the error for calls that the kernel does not have.
const ENOSYS: u16 = 38;

/// Why a profile cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A word of the profile that is unknown, or known and not supported: what it is, and the word.
    Unknown(&'static str, String),
    /// A condition is about an argument that no call has.
    Argument(u32),
    /// Two rules without conditions want different things of one call.
    Conflict(String),
    /// The program is longer than the kernel takes.
    TooLong(usize),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(what, word) => write!(f, "unknown {what} {word:?} in the seccomp profile"),
            Self::Argument(index) => write!(f, "no system call has an argument {index}"),
            Self::Conflict(name) => write!(f, "the seccomp profile contradicts itself about {name}"),
            Self::TooLong(length) => {
                write!(
                    f,
                    "the seccomp profile takes {length} instructions, and the kernel {MAX_INSTRUCTIONS}"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

/// What is to happen to one call.
#[derive(Clone, Debug, Default)]
struct Decision {
    always: Option<Action>,
    /// Otherwise, the first one whose conditions all hold.
    conditional: Vec<(Vec<Condition>, Action)>,
}

/// The program for a profile.
///
/// # Errors
/// See [`Error`].
pub fn compile(profile: &Profile) -> Result<Vec<Instruction>, Error> {
    if let Some(flag) = profile.flags.first() {
        return Err(Error::Unknown("flag", flag.clone()));
    }
    let default = Action::parse(&profile.default_action, profile.default_errno_ret)?;
    let mut architectures: BTreeSet<Architecture> =
        profile.architectures.iter().map(|name| Architecture::parse(name)).collect::<Result<_, _>>()?;
    architectures.extend(Architecture::native());
    let mut programs: BTreeMap<u32, Vec<Segment>> = BTreeMap::new();
    for architecture in &architectures {
        let segments = segments(profile, *architecture, default)?;
        programs.entry(architecture.audit()).or_default().extend(segments);
    }
    // Numbers with the mark of x32 are of another architecture.
    if architectures.contains(&Architecture::X86_64) && !architectures.contains(&Architecture::X32) {
        let beyond = beyond(default);
        programs.entry(Architecture::X86_64.audit()).or_default().extend([
            Segment { first: Architecture::X32_MARK, target: Target::Return(Action::KILL_THREAD) },
            // A tracer skips a call by this number.
            Segment { first: u32::MAX, target: Target::Return(beyond) },
        ]);
    }
    let program = assembler::assemble(programs, Action::KILL_THREAD);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong(program.len()));
    }
    Ok(program)
}

/// What is to happen to calls with numbers above all that the profile names.
fn beyond(default: Action) -> Action {
    if default.lets_pass() { default } else { Action::errno(ENOSYS) }
}

/// What is to happen to all numbers of an architecture, in their order.
fn segments(profile: &Profile, architecture: Architecture, default: Action) -> Result<Vec<Segment>, Error> {
    let mut decisions: BTreeMap<u32, Decision> = BTreeMap::new();
    let mut last = None;
    for rule in &profile.syscalls {
        let action = Action::parse(&rule.action, rule.errno_ret)?;
        let alternatives = rule.alternatives()?;
        for name in &rule.names {
            let Some(number) = architecture.number(name) else { continue };
            last = last.max(Some(number));
            if action == default {
                continue;
            }
            let decision = decisions.entry(number).or_default();
            if !alternatives.is_empty() {
                decision.conditional.extend(alternatives.iter().map(|all| (all.clone(), action)));
            } else if *decision.always.get_or_insert(action) != action {
                return Err(Error::Conflict(name.clone()));
            }
        }
    }
    let first = architecture.first_number();
    let mut segments = vec![Segment { first, target: Target::Return(default) }];
    for (number, decision) in decisions {
        let target = match decision.always {
            Some(action) => Target::Return(action),
            None => Target::Check(Block {
                wide: architecture.is_wide(),
                rules: decision.conditional,
                otherwise: default,
            }),
        };
        segments.push(Segment { first: number, target });
        // The numbers of all tables end far below that.
        segments.push(Segment { first: number + 1, target: Target::Return(default) });
    }
    if let Some(last) = last {
        segments.push(Segment { first: last + 1, target: Target::Return(beyond(default)) });
    }
    Ok(segments)
}
