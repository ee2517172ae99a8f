//! Instructions.

use std::collections::HashMap;

use crate::arch::Arch;
use crate::profile::{Error, Instruction};
use crate::rules::{Calls, Check, Condition, Op, Rules};

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQ: u16 = 0x15;
const JUMP_GT: u16 = 0x25;
const JUMP_GE: u16 = 0x35;
const RETURN: u16 = 0x06;

/// `BPF_MAXINSNS` of the kernel.
const MOST: usize = 4096;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What happens to a call: the filter returns a value, or looks at the arguments by a check of this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Return(u32),
    Check(usize),
}

/// Where a jump goes if the branch that it is part of does not hold.
#[derive(Clone, Copy)]
enum Otherwise {
    True,
    False,
}

pub(crate) struct Program {
    code: Vec<Instruction>,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self { code: Vec::with_capacity(1024) }
    }

    pub(crate) fn finish(self) -> Vec<Instruction> {
        self.code
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Result<usize, Error> {
        if self.code.len() == MOST {
            return Err(Error::TooLong);
        }
        self.code.push(Instruction { code, jt, jf, k });
        Ok(self.code.len() - 1)
    }

    /// Lets the jump at `from` go to what comes next.
    fn land(&mut self, from: usize) {
        let distance = self.code.len() - from - 1;
        // Programs are shorter than 2^32.
        self.code[from].k = u32::try_from(distance).unwrap_or(u32::MAX);
    }

    pub(crate) fn load_arch(&mut self) -> Result<(), Error> {
        self.push(LOAD, 0, 0, ARCH).map(drop)
    }

    pub(crate) fn ret(&mut self, value: u32) -> Result<(), Error> {
        self.push(RETURN, 0, 0, value).map(drop)
    }

    /// All calls of an architecture. The accumulator holds the architecture before and, for calls of
    /// others, after it.
    pub(crate) fn group(
        &mut self,
        arch: Arch,
        base: &[(u32, Verdict)],
        calls: Calls,
        rules: &Rules<'_>,
    ) -> Result<(), Error> {
        self.push(JUMP_EQ, 1, 0, arch.audit())?;
        let other = self.push(JUMP, 0, 0, 0)?;
        self.push(LOAD, 0, 0, NUMBER)?;

        let mut verdicts: Vec<(u32, Verdict)> = Vec::with_capacity(calls.plain.len() + calls.checked.len());
        verdicts.extend(calls.plain.iter().map(|(number, value)| (*number, Verdict::Return(*value))));
        // Many calls may share a check.
        let mut checks: Vec<(u32, Check)> = Vec::new();
        let mut known: HashMap<Check, usize> = HashMap::new();
        for (number, check) in calls.checked {
            let index = *known.entry(check).or_insert_with_key(|check| {
                checks.push((number, check.clone()));
                checks.len() - 1
            });
            verdicts.push((number, Verdict::Check(index)));
        }
        verdicts.sort_unstable_by_key(|(number, _)| *number);

        let mut jumps = Vec::new();
        self.search(&ranges(base, &verdicts), &mut jumps)?;
        for (index, (number, check)) in checks.iter().enumerate() {
            for (from, _) in jumps.iter().filter(|(_, target)| *target == index) {
                self.land(*from);
            }
            self.check(check, *number, rules)?;
        }
        self.land(other);
        Ok(())
    }

    /// Finds the range of a number.
    fn search(&mut self, ranges: &[(u32, Verdict)], jumps: &mut Vec<(usize, usize)>) -> Result<(), Error> {
        let (lower, upper) = ranges.split_at(ranges.len() / 2);
        if lower.is_empty() {
            for (_, verdict) in upper {
                match *verdict {
                    Verdict::Return(value) => self.ret(value)?,
                    Verdict::Check(index) => jumps.push((self.push(JUMP, 0, 0, 0)?, index)),
                }
            }
            return Ok(());
        }
        let middle = upper[0].0;
        // A search among n ranges has 2n - 1 instructions if it needs no far jump.
        if let Ok(near) = u8::try_from(2 * lower.len() - 1) {
            self.push(JUMP_GE, near, 0, middle)?;
            self.search(lower, jumps)?;
        } else {
            self.push(JUMP_GE, 0, 1, middle)?;
            let far = self.push(JUMP, 0, 0, 0)?;
            self.search(lower, jumps)?;
            self.land(far);
        }
        self.search(upper, jumps)
    }

    /// Looks at the arguments of a call.
    fn check(&mut self, check: &Check, number: u32, rules: &Rules<'_>) -> Result<(), Error> {
        let wide = check.arch.is_wide();
        let mut exits = Vec::new();
        for branch in check.branches(rules, number)? {
            exits.clear();
            for condition in &branch.conditions {
                self.condition(condition, wide, &mut exits)?;
            }
            self.ret(branch.action)?;
            for (from, otherwise) in &exits {
                // Six conditions of at most seven instructions.
                let distance = u8::try_from(self.code.len() - from - 1).map_err(|_| Error::TooLong)?;
                match otherwise {
                    Otherwise::True => self.code[*from].jt = distance,
                    Otherwise::False => self.code[*from].jf = distance,
                }
            }
        }
        self.ret(rules.default_action)
    }

    /// Goes on behind its instructions if the condition holds, and by one of the exits otherwise.
    fn condition(
        &mut self,
        condition: &Condition,
        wide: bool,
        exits: &mut Vec<(usize, Otherwise)>,
    ) -> Result<(), Error> {
        let low = ARGUMENTS + 8 * u32::from(condition.index);
        let high = low + 4;
        let half = |value: u64| ((value >> 32) as u32, value as u32);
        let (mask_high, mask_low) = half(condition.mask);
        let (datum_high, datum_low) = half(condition.datum);
        match condition.op {
            Op::Eq => {
                for (offset, mask, datum) in [(high, mask_high, datum_high), (low, mask_low, datum_low)] {
                    if mask == 0 {
                        continue;
                    }
                    self.push(LOAD, 0, 0, offset)?;
                    if mask != u32::MAX {
                        self.push(AND, 0, 0, mask)?;
                    }
                    exits.push((self.push(JUMP_EQ, 0, 0, datum)?, Otherwise::False));
                }
            }
            Op::Ne => {
                if wide {
                    self.push(LOAD, 0, 0, high)?;
                    self.push(JUMP_EQ, 0, 2, datum_high)?;
                }
                self.push(LOAD, 0, 0, low)?;
                exits.push((self.push(JUMP_EQ, 0, 0, datum_low)?, Otherwise::True));
            }
            Op::Gt | Op::Ge => {
                if wide {
                    self.push(LOAD, 0, 0, high)?;
                    self.push(JUMP_GT, 3, 0, datum_high)?;
                    exits.push((self.push(JUMP_EQ, 0, 0, datum_high)?, Otherwise::False));
                }
                self.push(LOAD, 0, 0, low)?;
                let code = if condition.op == Op::Gt { JUMP_GT } else { JUMP_GE };
                exits.push((self.push(code, 0, 0, datum_low)?, Otherwise::False));
            }
            Op::Lt | Op::Le => {
                if wide {
                    self.push(LOAD, 0, 0, high)?;
                    exits.push((self.push(JUMP_GT, 0, 0, datum_high)?, Otherwise::True));
                    self.push(JUMP_EQ, 0, 2, datum_high)?;
                }
                self.push(LOAD, 0, 0, low)?;
                let code = if condition.op == Op::Lt { JUMP_GE } else { JUMP_GT };
                exits.push((self.push(code, 0, 0, datum_low)?, Otherwise::True));
            }
        }
        Ok(())
    }
}

/// The verdicts of all numbers: where ranges begin that have the same one. `base` begins with 0.
fn ranges(base: &[(u32, Verdict)], calls: &[(u32, Verdict)]) -> Vec<(u32, Verdict)> {
    fn begin(ranges: &mut Vec<(u32, Verdict)>, start: u32, verdict: Verdict) {
        ranges.pop_if(|(last, _)| *last == start);
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((start, verdict));
        }
    }
    let mut ranges = Vec::with_capacity(2 * calls.len());
    let mut calls = calls.iter().peekable();
    for (index, (start, verdict)) in base.iter().enumerate() {
        let next = base.get(index + 1).map(|(next, _)| *next);
        begin(&mut ranges, *start, *verdict);
        while let Some((number, own)) = calls.next_if(|(number, _)| next.is_none_or(|next| *number < next)) {
            begin(&mut ranges, *number, *own);
            if let Some(after) = number.checked_add(1) {
                begin(&mut ranges, after, *verdict);
            }
        }
    }
    ranges
}
