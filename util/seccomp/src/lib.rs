//! Compiles the seccomp profiles of OCI configurations to BPF programs, without libseccomp.
//!
//! A program gives the verdicts that runc gives with libseccomp:
//!
//! * The native architecture is always part of it. Whoever calls by one that is not is killed (the thread),
//!   and so are calls with the bit of x32 where the profile has only `SCMP_ARCH_X86_64`.
//! * A rule without conditions wins over those with conditions for the same call, the first one over later
//!   ones. Among rules with conditions the more specific come first: in the order of libseccomp, not of the
//!   profile. What libseccomp refuses because two rules contradict each other is refused here as well.
//! * 32-bit architectures and x32 compare the low halves of values and arguments.
//! * Where the kernel has `socketcall` and `ipc`, a rule for a call that goes through them becomes one for
//!   the multiplexer's number of that call, too. What it says of the first argument cannot be checked there,
//!   since it lies in memory, and is left out, as libseccomp does.
//! * Unless the default action lets calls pass, numbers above all that the profile names fail with
//!   `ENOSYS`: C libraries take that for an old kernel and use older calls, but give up at `EPERM`.
//!
//! It knows the calls of newer kernels than libseccomp 2.5 does, and keeps to the profile where that version
//! loses rules: for multiplexed calls without a number of their own if they come first, and for some
//! overlapping comparisons of 64-bit values.
//!
//! ```
//! use buildkit_util_seccomp::{Profile, Rule, compile};
//!
//! let profile = Profile {
//!     default_action: "SCMP_ACT_ERRNO".into(),
//!     syscalls: vec![Rule { names: vec!["read".into()], action: "SCMP_ACT_ALLOW".into(), ..Rule::default() }],
//!     ..Profile::default()
//! };
//! assert!(!compile(&profile)?.is_empty());
//! # Ok::<(), buildkit_util_seccomp::Error>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod arch;
mod emit;
mod profile;
mod rules;
#[cfg(test)]
mod tests;

pub use profile::{Argument, Error, Instruction, Profile, Rule};

use arch::{Arch, X32_BIT};
use emit::{Program, Verdict};
use rules::{Calls, Rules};

/// The program for a profile, to be given to `seccomp(2)` on a host of the architecture of this binary.
pub fn compile(profile: &Profile) -> Result<Vec<Instruction>, Error> {
    for flag in &profile.flags {
        // It says that all threads get the filter, which means nothing just before exec.
        if flag != "SECCOMP_FILTER_FLAG_TSYNC" {
            return Err(Error::Flag(flag.clone()));
        }
    }
    let native = Arch::native().ok_or(Error::Host)?;
    let mut arches = vec![native];
    for name in &profile.architectures {
        let arch = Arch::from_name(name).ok_or_else(|| Error::Architecture(name.clone()))?;
        if !arches.contains(&arch) {
            arches.push(arch);
        }
    }
    let rules = Rules::new(profile)?;
    let mut program = Program::new();
    program.load_arch()?;
    // x32 is a mode of x86_64, and nothing without it.
    for &arch in arches.iter().filter(|arch| **arch != Arch::X32) {
        let mut calls = Calls::new();
        let last = calls.add(&rules, arch);
        let base = if arch == Arch::X86_64 {
            let x32 = arches.contains(&Arch::X32).then(|| calls.add(&rules, Arch::X32));
            x86_64_base(&rules, last, x32)
        } else {
            base(&rules, last)
        };
        program.group(arch, &base, calls, &rules)?;
    }
    program.ret(rules::KILL_THREAD)?;
    Ok(program.finish())
}

/// Verdicts from a number on to the next one of the list, for calls that no rule names.
type Base = Vec<(u32, Verdict)>;

/// Where the calls end that the profile knows, if what is above them has a verdict of its own.
fn end(rules: &Rules<'_>, last: Option<u32>) -> Option<(u32, Verdict)> {
    let next = last.filter(|_| rules.new_calls_fail)?.checked_add(1)?;
    Some((next, Verdict::Return(rules::ENOSYS)))
}

fn base(rules: &Rules<'_>, last: Option<u32>) -> Base {
    let default = Verdict::Return(rules.default_action);
    std::iter::once((0, default)).chain(end(rules, last)).collect()
}

/// The bit of x32 divides the numbers into quarters: without it, with it, and both again with the sign bit,
/// which no call has.
fn x86_64_base(rules: &Rules<'_>, last: Option<u32>, x32: Option<Option<u32>>) -> Base {
    let default = Verdict::Return(rules.default_action);
    let killed = Verdict::Return(rules::KILL_THREAD);
    let foreign = if x32.is_some() { default } else { killed };
    let end_64 = end(rules, last);
    let end_x32 = x32.and_then(|last| end(rules, last));
    let mut base = vec![(0, default)];
    base.extend(end_64);
    base.push((X32_BIT, foreign));
    base.extend(end_x32);
    base.push((2 * X32_BIT, end_64.map_or(foreign, |(_, verdict)| verdict)));
    base.push((3 * X32_BIT, end_x32.map_or(foreign, |(_, verdict)| verdict)));
    if x32.is_none() {
        // A tracer writes it to pass over a call.
        base.push((u32::MAX, default));
    }
    base
}
