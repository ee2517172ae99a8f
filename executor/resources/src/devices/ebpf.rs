//! The devices of a group of version 2: a program that the kernel runs at each use of a device.
//!
//! The program gets a `struct bpf_cgroup_dev_ctx` of three 32-bit numbers (access and kind in one,
//! major, minor) and answers 1 to grant.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Access, DeviceKind, DeviceList, Exception};

mod sys;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination and source.
    registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// Destination registers are in the low half of their byte on little-endian machines.
const LOW_FIRST: bool = cfg!(target_endian = "little");

impl Instruction {
    pub(crate) const LOAD_WORD: u8 = 0x61;
    pub(crate) const MOVE: u8 = 0xbf;
    pub(crate) const SET: u8 = 0xb7;
    pub(crate) const AND: u8 = 0x57;
    pub(crate) const SHIFT_RIGHT: u8 = 0x77;
    pub(crate) const JUMP_IF_EQUAL: u8 = 0x15;
    pub(crate) const JUMP_IF_NOT_EQUAL: u8 = 0x55;
    pub(crate) const EXIT: u8 = 0x95;

    const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        let registers = if LOW_FIRST { destination | source << 4 } else { destination << 4 | source };
        Self { code, registers, offset, immediate }
    }

    #[cfg(test)]
    pub(crate) const fn destination(self) -> usize {
        (if LOW_FIRST { self.registers & 15 } else { self.registers >> 4 }) as usize
    }

    #[cfg(test)]
    pub(crate) const fn source(self) -> usize {
        (if LOW_FIRST { self.registers >> 4 } else { self.registers & 15 }) as usize
    }
}

const ANSWER: u8 = 0;
/// Of the context at the start, then free.
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The numbers of the kernel for kinds; those for accesses are the ones in [`Access`].
pub(crate) const fn number_of(kind: DeviceKind) -> i32 {
    match kind {
        DeviceKind::Block => 1,
        DeviceKind::Char => 2,
    }
}

/// The program that decides as the list does.
pub(crate) fn program(list: &DeviceList) -> Vec<Instruction> {
    use Instruction as I;
    let mut program = vec![
        I::new(I::LOAD_WORD, KIND, SCRATCH, 0, 0),
        I::new(I::LOAD_WORD, MAJOR, SCRATCH, 4, 0),
        I::new(I::LOAD_WORD, MINOR, SCRATCH, 8, 0),
        I::new(I::MOVE, ACCESS, KIND, 0, 0),
        I::new(I::SHIFT_RIGHT, ACCESS, 0, 0, 16),
        I::new(I::AND, KIND, 0, 0, 0xffff),
    ];
    for exception in &list.exceptions {
        program.extend(block(exception, list.allowed_by_default));
    }
    program.extend(answer(list.allowed_by_default));
    program
}

fn answer(grant: bool) -> [Instruction; 2] {
    [
        Instruction::new(Instruction::SET, ANSWER, 0, 0, i32::from(grant)),
        Instruction::new(Instruction::EXIT, 0, 0, 0, 0),
    ]
}

/// Answers if the exception applies, else goes on behind its end.
fn block(exception: &Exception, allowed_by_default: bool) -> Vec<Instruction> {
    use Instruction as I;
    let mut block = vec![I::new(I::JUMP_IF_NOT_EQUAL, KIND, 0, 0, number_of(exception.kind))];
    if allowed_by_default {
        block.extend([
            I::new(I::MOVE, SCRATCH, ACCESS, 0, 0),
            I::new(I::AND, SCRATCH, 0, 0, i32::from(exception.access.0)),
            I::new(I::JUMP_IF_EQUAL, SCRATCH, 0, 0, 0),
        ]);
    } else if exception.access != Access::ALL {
        block.extend([
            I::new(I::MOVE, SCRATCH, ACCESS, 0, 0),
            I::new(I::AND, SCRATCH, 0, 0, !i32::from(exception.access.0)),
            I::new(I::JUMP_IF_NOT_EQUAL, SCRATCH, 0, 0, 0),
        ]);
    }
    for (register, number) in [(MAJOR, exception.major), (MINOR, exception.minor)] {
        // Greater ones are not in a list.
        if let Some(number) = number.and_then(|number| i32::try_from(number).ok()) {
            block.push(I::new(I::JUMP_IF_NOT_EQUAL, register, 0, 0, number));
        }
    }
    block.extend(answer(!allowed_by_default));
    // A jump counts from the instruction behind it.
    let length = block.len() as i16;
    for (at, instruction) in (1..).zip(&mut block) {
        if matches!(instruction.code, I::JUMP_IF_EQUAL | I::JUMP_IF_NOT_EQUAL) {
            instruction.offset = length - at;
        }
    }
    block
}

/// Restricts a group of version 2, besides what restricts the groups above. The program stays as long
/// as the group does.
pub(crate) fn restrict(group: BorrowedFd<'_>, list: &DeviceList) -> io::Result<()> {
    if list.allows_all() {
        return Ok(());
    }
    let program = program(list);
    let loaded = match sys::load(&program) {
        // Before Linux 5.11, programs counted as locked memory, of which there is little by default.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            with_locked_memory(|| sys::load(&program))
        }
        other => other,
    };
    loaded.and_then(|loaded| sys::attach(&loaded, group))
}

/// Only for the moment: containers inherit the limit.
fn with_locked_memory<T>(load: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?;
    let result = load();
    setrlimit(Resource::Memlock, before)?;
    result
}
