//! The rules of a profile, and which of them are for which call.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use smallvec::SmallVec;

use crate::arch::Arch;
use crate::profile::{Argument, Error, Profile, Rule as ProfileRule};

pub(crate) const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
pub(crate) const ENOSYS: u32 = ERRNO | 38;

/// More rules for one call than any program has room for.
const MOST_FOR_CALL: usize = 4096;

/// What the filter returns for an action.
fn action(name: &str, number: Option<u32>) -> Result<u32, Error> {
    let data = || match number.unwrap_or(EPERM) {
        number @ 0..=0xffff => Ok(number),
        number => Err(Error::ErrorNumber(number)),
    };
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(KILL_THREAD),
        "SCMP_ACT_KILL_PROCESS" => Ok(KILL_PROCESS),
        "SCMP_ACT_TRAP" => Ok(TRAP),
        "SCMP_ACT_ERRNO" => Ok(ERRNO | data()?),
        "SCMP_ACT_TRACE" => Ok(TRACE | data()?),
        "SCMP_ACT_LOG" => Ok(LOG),
        "SCMP_ACT_ALLOW" => Ok(ALLOW),
        other => Err(Error::Action(other.to_owned())),
    }
}

/// Of those that are alike, the stricter come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A comparison of the bits of `mask` of an argument with `datum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) index: u8,
    pub(crate) op: Op,
    pub(crate) mask: u64,
    pub(crate) datum: u64,
}

impl Condition {
    fn new(argument: &Argument) -> Result<Self, Error> {
        let index = u8::try_from(argument.index).ok().filter(|index| *index < 6);
        let index = index.ok_or(Error::ArgumentIndex(argument.index))?;
        let plain = |op| Self { index, op, mask: u64::MAX, datum: argument.value };
        Ok(match argument.op.as_str() {
            "SCMP_CMP_NE" => plain(Op::Ne),
            "SCMP_CMP_LT" => plain(Op::Lt),
            "SCMP_CMP_LE" => plain(Op::Le),
            "SCMP_CMP_EQ" => plain(Op::Eq),
            "SCMP_CMP_GE" => plain(Op::Ge),
            "SCMP_CMP_GT" => plain(Op::Gt),
            "SCMP_CMP_MASKED_EQ" => {
                let mask = argument.value;
                Self { index, op: Op::Eq, mask, datum: argument.value_two & mask }
            }
            other => return Err(Error::Operator(other.to_owned())),
        })
    }

    /// What is left of it for the width of an architecture; nothing if no bit is compared.
    fn on(self, wide: bool) -> Option<Self> {
        let bits = if wide { u64::MAX } else { u64::from(u32::MAX) };
        let (mask, datum) = (self.mask & bits, self.datum & bits);
        (mask != 0).then_some(Self { mask, datum, ..self })
    }

    /// The order in which libseccomp looks at conditions.
    fn cmp(&self, other: &Self) -> Ordering {
        fn key(it: &Condition) -> impl Ord {
            let (class, datum) = match it.op {
                Op::Eq | Op::Ne => (0, !it.datum),
                Op::Lt | Op::Le => (1, it.datum),
                Op::Ge | Op::Gt => (2, !it.datum),
            };
            (Reverse(it.index), class, datum, it.op as u8, Reverse(it.mask))
        }
        key(self).cmp(&key(other))
    }
}

/// Conditions that must all hold, in the order of the arguments, and what happens then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) action: u32,
}

impl Branch {
    fn cmp(&self, other: &Self) -> Ordering {
        for (one, another) in self.conditions.iter().zip(&other.conditions) {
            match one.cmp(another) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
        self.conditions.len().cmp(&other.conditions.len())
    }
}

struct Rule {
    action: u32,
    /// It does what would happen without it.
    redundant: bool,
    conditions: Vec<Condition>,
    /// One of the conditions must hold, not all: two are for the same argument.
    any: bool,
    /// It has nothing to compare, on 32-bit and on 64-bit architectures.
    unconditional: [bool; 2],
}

impl Rule {
    fn new(rule: &ProfileRule, default_action: u32) -> Result<Self, Error> {
        let action = action(&rule.action, rule.errno_ret)?;
        let mut conditions =
            rule.args.iter().map(Condition::new).collect::<Result<Vec<Condition>, Error>>()?;
        let mut seen = [0; 6];
        conditions.iter().for_each(|condition| seen[usize::from(condition.index)] += 1);
        let any = seen.iter().any(|count| *count > 1);
        if !any {
            conditions.sort_by_key(|condition| condition.index);
        }
        let unconditional = [false, true].map(|wide| {
            let mut nothing = conditions.iter().map(|condition| condition.on(wide).is_none());
            if any { nothing.any(|it| it) } else { nothing.all(|it| it) }
        });
        Ok(Self { action, redundant: action == default_action, conditions, any, unconditional })
    }

    /// Adds the branches of this rule, those for a call of a multiplexer if `multiplexed` is one.
    fn branches(&self, wide: bool, multiplexed: Option<u8>, branches: &mut Vec<Branch>) {
        let alternatives = self.conditions.chunks(if self.any { 1 } else { self.conditions.len().max(1) });
        // A call of a multiplexer has a condition even if the rule has none.
        let none: &[Condition] = &[];
        let alternatives = alternatives.chain(self.conditions.is_empty().then_some(none));
        branches.extend(alternatives.map(|alternative| {
            let call = multiplexed.map(|call| Condition {
                index: 0,
                op: Op::Eq,
                mask: u64::MAX,
                datum: u64::from(call),
            });
            let others = alternative.iter().filter(|it| multiplexed.is_none() || it.index != 0);
            let conditions = call.iter().chain(others).filter_map(|it| it.on(wide)).collect();
            Branch { conditions, action: self.action }
        }));
    }
}

pub(crate) struct Rules<'a> {
    pub(crate) default_action: u32,
    /// Calls newer than all of the profile get `ENOSYS`.
    pub(crate) new_calls_fail: bool,
    rules: Vec<Rule>,
    /// Indices of the rules for a name, which mostly is one.
    by_name: HashMap<&'a str, SmallVec<[usize; 2]>>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(profile: &'a Profile) -> Result<Self, Error> {
        let default_action = action(&profile.default_action, profile.default_errno_ret)?;
        let new_calls_fail = ![ALLOW, LOG].contains(&default_action) && default_action & !0xffff != TRACE;
        let rules = profile.syscalls.iter().map(|rule| Rule::new(rule, default_action));
        let rules = rules.collect::<Result<Vec<Rule>, Error>>()?;
        let mut by_name: HashMap<&str, SmallVec<[usize; 2]>> = HashMap::with_capacity(512);
        for (index, rule) in profile.syscalls.iter().enumerate() {
            for name in &rule.names {
                if name.is_empty() {
                    return Err(Error::EmptyName);
                }
                by_name.entry(name).or_default().push(index);
            }
        }
        Ok(Self { default_action, new_calls_fail, rules, by_name })
    }
}

/// The rule of an index, for the multiplexer's value if it is about a call of one.
pub(crate) type RuleUse = (usize, Option<u8>);

/// What happens to calls of an architecture that the profile names.
pub(crate) struct Calls {
    /// Pairs of numbers and rules without conditions.
    pub(crate) plain: Vec<(u32, u32)>,
    /// Those that depend on arguments.
    pub(crate) checked: Vec<(u32, Check)>,
}

/// The rules for a call, all with conditions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Check {
    pub(crate) arch: Arch,
    pub(crate) uses: Vec<RuleUse>,
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self { plain: Vec::with_capacity(512), checked: Vec::new() }
    }

    /// Adds those of an architecture, and returns the highest number that the profile names, if not 0.
    pub(crate) fn add(&mut self, rules: &Rules<'_>, arch: Arch) -> Option<u32> {
        let mut last = 0;
        let mut multiplexers: Vec<(u32, Vec<RuleUse>)> = Vec::new();
        arch.each(|name, number| {
            if let Some(indices) = rules.by_name.get(name) {
                last = last.max(number);
                let own = || indices.iter().map(|index| (*index, None));
                match multiplexers.iter_mut().find(|(multiplexer, _)| *multiplexer == number) {
                    Some((_, uses)) => uses.extend(own()),
                    None if arch.is_multiplexer(number) => multiplexers.push((number, own().collect())),
                    None => self.add_call(rules, arch, number, own()),
                }
            }
        });
        for &(name, number, call) in arch.multiplexed() {
            if let Some(indices) = rules.by_name.get(name) {
                last = last.max(number);
                let through = indices.iter().map(|index| (*index, Some(call)));
                match multiplexers.iter_mut().find(|(multiplexer, _)| *multiplexer == number) {
                    Some((_, uses)) => uses.extend(through),
                    None => multiplexers.push((number, through.collect())),
                }
            }
        }
        for (number, mut uses) in multiplexers {
            uses.sort_by_key(|(index, _)| *index);
            self.add_call(rules, arch, number, uses.into_iter());
        }
        (last != 0).then_some(last)
    }

    fn add_call(
        &mut self,
        rules: &Rules<'_>,
        arch: Arch,
        number: u32,
        uses: impl Iterator<Item = RuleUse> + Clone,
    ) {
        let mut uses = uses.filter(|(index, _)| !rules.rules[*index].redundant);
        let wide = usize::from(arch.is_wide());
        let unconditional =
            uses.clone().find(|(index, call)| call.is_none() && rules.rules[*index].unconditional[wide]);
        if let Some((index, _)) = unconditional {
            self.plain.push((number, rules.rules[index].action));
        } else if let Some(first) = uses.next() {
            let uses = std::iter::once(first).chain(uses).collect();
            self.checked.push((number, Check { arch, uses }));
        }
    }
}

impl Check {
    /// Its branches in the order in which they are tried. None of them contradict each other, or hide
    /// others.
    pub(crate) fn branches(&self, rules: &Rules<'_>, number: u32) -> Result<Vec<Branch>, Error> {
        let mut branches = Vec::new();
        for (index, multiplexed) in &self.uses {
            rules.rules[*index].branches(self.arch.is_wide(), *multiplexed, &mut branches);
            if branches.len() > MOST_FOR_CALL {
                return Err(Error::TooLong);
            }
        }
        let mut sorted: Vec<(usize, Branch)> = branches.into_iter().enumerate().collect();
        sorted.sort_by(|(_, one), (_, other)| one.cmp(other));
        let mut kept: Vec<(usize, Branch)> = Vec::new();
        for (index, branch) in sorted {
            // Longer ones with the same start come directly after a short one.
            if let Some((first, short)) = kept.last()
                && branch.conditions.starts_with(&short.conditions)
            {
                let same = branch.conditions.len() == short.conditions.len();
                if branch.action != short.action && (same || index < *first) {
                    return Err(Error::Conflict { number, architecture: self.arch.name() });
                }
                continue;
            }
            kept.push((index, branch));
        }
        Ok(kept.into_iter().map(|(_, branch)| branch).collect())
    }
}
