//! Programs of the kernel's classic BPF, from decisions about numbers.

use std::collections::BTreeMap;

use crate::profile::{Action, Comparison, Condition};

/// An instruction, laid out as `struct sock_filter` of `linux/filter.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jt: u8,
    /// How many if not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Codes of instructions: loads of a word at a place, jumps, masks and returns, all with constants.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Places in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What happens to calls from a number on, up to the next segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub first: u32,
    pub target: Target,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Return(Action),
    Check(Block),
}

/// Rules about the arguments of one call; the first that holds counts.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Whether arguments are as long as their fields: otherwise the upper half is not looked at.
    pub wide: bool,
    pub rules: Vec<(Vec<Condition>, Action)>,
    pub otherwise: Action,
}

fn instruction(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn ret(action: Action) -> Instruction {
    instruction(RETURN, action.0)
}

/// The program for all architectures. Segments of each begin at 0; of several with one beginning, the last counts.
pub(crate) fn assemble(architectures: BTreeMap<u32, Vec<Segment>>, otherwise: Action) -> Vec<Instruction> {
    let mut program = vec![instruction(LOAD, ARCHITECTURE)];
    for (architecture, segments) in architectures {
        let search = search(&tidy(segments));
        // The body can be longer than a comparison can skip.
        program.push(branch(IF_EQUAL, architecture, 1, 0));
        program.push(instruction(JUMP, length(&search) + 1));
        program.push(instruction(LOAD, NUMBER));
        program.extend(search);
    }
    program.push(ret(otherwise));
    program
}

/// Sorted, without those that are empty or go on with what is before them.
fn tidy(mut segments: Vec<Segment>) -> Vec<Segment> {
    // A stable sort: of those with one beginning, the last one given is the last one.
    segments.sort_by_key(|segment| segment.first);
    let mut tidy: Vec<Segment> = Vec::with_capacity(segments.len());
    for segment in segments {
        if tidy.last().is_some_and(|last| last.first == segment.first) {
            tidy.pop();
        }
        let same = match (tidy.last().map(|last| &last.target), &segment.target) {
            (Some(Target::Return(before)), Target::Return(now)) => before == now,
            _ => false,
        };
        if !same {
            tidy.push(segment);
        }
    }
    tidy
}

/// Finds the segment of the number that is loaded, and returns what that says.
fn search(segments: &[Segment]) -> Vec<Instruction> {
    match segments {
        [] => Vec::new(),
        [segment] => match &segment.target {
            Target::Return(action) => vec![ret(*action)],
            Target::Check(block) => check(block),
        },
        _ => {
            let (below, above) = segments.split_at(segments.len() / 2);
            let first = above.first().map_or(0, |segment| segment.first);
            let below = search(below);
            let mut program = match u8::try_from(below.len()) {
                Ok(skip) => vec![branch(IF_AT_LEAST, first, skip, 0)],
                Err(_) => vec![branch(IF_AT_LEAST, first, 0, 1), instruction(JUMP, length(&below))],
            };
            program.extend(below);
            program.extend(search(above));
            program
        }
    }
}

fn length(program: &[Instruction]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

fn check(block: &Block) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (conditions, action) in &block.rules {
        // From behind, because each jumps over all that comes after it when it does not hold.
        let mut rule = vec![ret(*action)];
        for condition in conditions.iter().rev() {
            // Six conditions of five instructions each, at most.
            let after = u8::try_from(rule.len()).unwrap_or(u8::MAX);
            let compare = if block.wide { compare_wide } else { compare_narrow };
            rule.splice(0..0, compare(condition, after));
        }
        program.extend(rule);
    }
    program.push(ret(block.otherwise));
    program
}

/// Places of the halves of an argument, the lower one first.
fn places(condition: &Condition) -> (u32, u32) {
    let place = ARGUMENTS + 8 * condition.argument;
    if cfg!(target_endian = "little") { (place, place + 4) } else { (place + 4, place) }
}

/// Like [`compare_wide`], with the lower half alone.
fn compare_narrow(condition: &Condition, fail: u8) -> Vec<Instruction> {
    let [value, _] = halves(condition.value);
    let mut program = vec![instruction(LOAD, places(condition).0)];
    let decision = match condition.comparison {
        Comparison::Equal => branch(IF_EQUAL, value, 0, fail),
        Comparison::NotEqual => branch(IF_EQUAL, value, fail, 0),
        Comparison::Greater => branch(IF_GREATER, value, 0, fail),
        Comparison::GreaterOrEqual => branch(IF_AT_LEAST, value, 0, fail),
        Comparison::LessOrEqual => branch(IF_GREATER, value, fail, 0),
        Comparison::Less => branch(IF_AT_LEAST, value, fail, 0),
        Comparison::MaskedEqual(mask) => {
            program.push(instruction(AND, halves(mask)[0]));
            branch(IF_EQUAL, value, 0, fail)
        }
    };
    program.push(decision);
    program
}

/// Goes on behind itself if a condition holds, and otherwise `fail` instructions further on.
fn compare_wide(condition: &Condition, fail: u8) -> Vec<Instruction> {
    let [low, high] = halves(condition.value);
    let (low_at, high_at) = places(condition);
    let load_low = instruction(LOAD, low_at);
    let load_high = instruction(LOAD, high_at);
    match condition.comparison {
        Comparison::Equal => {
            vec![load_high, branch(IF_EQUAL, high, 0, fail + 2), load_low, branch(IF_EQUAL, low, 0, fail)]
        }
        Comparison::NotEqual => {
            vec![load_high, branch(IF_EQUAL, high, 0, 2), load_low, branch(IF_EQUAL, low, fail, 0)]
        }
        Comparison::Greater => vec![
            load_high,
            branch(IF_GREATER, high, 3, 0),
            branch(IF_EQUAL, high, 0, fail + 2),
            load_low,
            branch(IF_GREATER, low, 0, fail),
        ],
        Comparison::GreaterOrEqual => vec![
            load_high,
            branch(IF_GREATER, high, 3, 0),
            branch(IF_EQUAL, high, 0, fail + 2),
            load_low,
            branch(IF_AT_LEAST, low, 0, fail),
        ],
        Comparison::LessOrEqual => vec![
            load_high,
            branch(IF_GREATER, high, fail + 3, 0),
            branch(IF_EQUAL, high, 0, 2),
            load_low,
            branch(IF_GREATER, low, fail, 0),
        ],
        Comparison::Less => vec![
            load_high,
            branch(IF_GREATER, high, fail + 3, 0),
            branch(IF_EQUAL, high, 0, 2),
            load_low,
            branch(IF_AT_LEAST, low, fail, 0),
        ],
        Comparison::MaskedEqual(mask) => {
            let [mask_low, mask_high] = halves(mask);
            vec![
                load_high,
                instruction(AND, mask_high),
                branch(IF_EQUAL, high, 0, fail + 3),
                load_low,
                instruction(AND, mask_low),
                branch(IF_EQUAL, low, 0, fail),
            ]
        }
    }
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
