use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::arch::{Arch, X32_BIT};
use crate::{Argument, Error, Instruction, Profile, Rule, compile};

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0;
const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    arch: u32,
    arguments: [u64; 6],
}

impl Call {
    fn new(arch: Arch, number: u32, arguments: &[u64]) -> Self {
        let mut call = Self { number, arch: arch.audit(), arguments: [0; 6] };
        call.arguments[..arguments.len()].copy_from_slice(arguments);
        call
    }

    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            _ => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                (if offset.is_multiple_of(8) { argument } else { argument >> 32 }) as u32
            }
        }
    }
}

/// What the kernel does with a program.
fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            0x06 => return k,
            0x20 => {
                accumulator = call.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

/// What the kernel demands of a program before it takes it.
fn assert_valid(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= 4096);
    for (at, it) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        match it.code {
            0x06 => {}
            0x20 => assert!(it.k < 64 && it.k.is_multiple_of(4), "{at}: {it:?}"),
            0x54 => {}
            0x05 => assert!((it.k as usize) < left, "{at}: {it:?}"),
            0x15 | 0x25 | 0x35 => {
                assert!(usize::from(it.jt) < left && usize::from(it.jf) < left, "{at}: {it:?}");
            }
            other => panic!("{at}: instruction {other:#x}"),
        }
        if ![0x15, 0x25, 0x35].contains(&it.code) {
            assert_eq!((it.jt, it.jf), (0, 0), "{at}");
        }
    }
    assert_eq!(program[program.len() - 1].code, 0x06);
}

fn code(action: &str, number: Option<u32>) -> u32 {
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x3_0000,
        "SCMP_ACT_ERRNO" => 0x5_0000 + number.unwrap_or(1),
        "SCMP_ACT_TRACE" => 0x7ff0_0000 + number.unwrap_or(1),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => ALLOW,
        other => panic!("action {other}"),
    }
}

fn holds(argument: &Argument, wide: bool, value: u64) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (value, one, two) = (cut(value), cut(argument.value), cut(argument.value_two));
    match argument.op.as_str() {
        "SCMP_CMP_NE" => value != one,
        "SCMP_CMP_LT" => value < one,
        "SCMP_CMP_LE" => value <= one,
        "SCMP_CMP_EQ" => value == one,
        "SCMP_CMP_GE" => value >= one,
        "SCMP_CMP_GT" => value > one,
        "SCMP_CMP_MASKED_EQ" => value & one == two & one,
        other => panic!("operator {other}"),
    }
}

fn is_empty(argument: &Argument, wide: bool) -> bool {
    argument.op == "SCMP_CMP_MASKED_EQ"
        && (if wide { argument.value } else { argument.value as u32 as u64 }) == 0
}

/// The order among rules with conditions, of which the first that matches has its way.
type Rank = (u32, u32, u64, u32, u64);

fn rank(argument: &Argument, wide: bool) -> Rank {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (value, all) = (cut(argument.value), cut(u64::MAX));
    let (class, datum, op, mask) = match argument.op.as_str() {
        "SCMP_CMP_MASKED_EQ" => (0, !cut(argument.value_two & value), 0, value),
        "SCMP_CMP_EQ" => (0, !value, 0, all),
        "SCMP_CMP_NE" => (0, !value, 1, all),
        "SCMP_CMP_LT" => (1, value, 0, all),
        "SCMP_CMP_LE" => (1, value, 1, all),
        "SCMP_CMP_GE" => (2, !value, 1, all),
        _ => (2, !value, 0, all),
    };
    (5 - argument.index, class, datum, op, !mask)
}

/// Which rules are about a number, and for what first argument of a multiplexer.
type Rules<'a> = BTreeMap<(Arch, u32), Vec<(&'a Rule, Option<u8>)>>;

/// The verdicts of a profile by going through its rules for each call.
struct Model<'a> {
    profile: &'a Profile,
    arches: Vec<Arch>,
    rules: Rules<'a>,
    /// The highest number that the profile names.
    last: BTreeMap<Arch, u32>,
}

impl Ord for Arch {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for Arch {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Model<'a> {
    fn new(profile: &'a Profile) -> Self {
        let mut arches: Vec<Arch> =
            profile.architectures.iter().map(|name| Arch::from_name(name).expect("known")).collect();
        arches.push(Arch::native().expect("supported"));
        let mut rules = Rules::new();
        let mut last = BTreeMap::new();
        for &arch in &arches {
            let mut numbers = BTreeMap::new();
            arch.each(|name, number| assert_eq!(numbers.insert(name, number), None, "{name}"));
            for rule in &profile.syscalls {
                for name in &rule.names {
                    let own = numbers.get(name.as_str()).map(|number| (*number, None));
                    let through = arch.multiplexed().iter().find(|(call, _, _)| call == name);
                    for (number, which) in own.into_iter().chain(through.map(|it| (it.1, Some(it.2)))) {
                        rules.entry((arch, number)).or_default().push((rule, which));
                        let last: &mut u32 = last.entry(arch).or_default();
                        *last = number.max(*last);
                    }
                }
            }
        }
        Self { profile, arches, rules, last }
    }

    fn run(&self, call: &Call) -> u32 {
        let default = code(&self.profile.default_action, self.profile.default_errno_ret);
        let is_x32 = call.arch == Arch::X32.audit() && call.number & X32_BIT != 0;
        let arch = if is_x32 {
            Some(Arch::X32)
        } else {
            self.arches.iter().copied().find(|arch| *arch != Arch::X32 && arch.audit() == call.arch)
        };
        let Some(arch) = arch.filter(|arch| self.arches.contains(arch)) else {
            let passed_over = self.arches.contains(&Arch::X86_64) && is_x32 && call.number == u32::MAX;
            return if passed_over { default } else { KILL };
        };
        let last = self.last.get(&arch).copied().unwrap_or(0);
        let passes = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        if last != 0 && call.number > last && !passes.contains(&self.profile.default_action.as_str()) {
            return ENOSYS;
        }
        if call.arch == Arch::X86_64.audit()
            && call.number & 0x8000_0000 != 0
            && !self.arches.contains(&Arch::X32)
        {
            return KILL;
        }
        let wide = arch.is_wide();
        let mut matching = Vec::new();
        for (rule, which) in self.rules.get(&(arch, call.number)).into_iter().flatten() {
            let action = code(&rule.action, rule.errno_ret);
            if action == default {
                continue;
            }
            // The first argument is the multiplexer's, which no rule knows.
            let first = which.map(|which| Argument {
                index: 0,
                value: which.into(),
                value_two: 0,
                op: "SCMP_CMP_EQ".into(),
            });
            let twice = (0..6).any(|index| rule.args.iter().filter(|it| it.index == index).count() > 1);
            let mut alternatives: Vec<Vec<&Argument>> = if twice {
                rule.args.iter().map(|argument| vec![argument]).collect()
            } else {
                vec![rule.args.iter().collect()]
            };
            for alternative in &mut alternatives {
                alternative.retain(|argument| !is_empty(argument, wide));
                alternative.sort_by_key(|argument| argument.index);
                if let Some(first) = &first {
                    alternative.retain(|argument| argument.index != 0);
                    alternative.insert(0, first);
                }
                let mut conditions = alternative.iter();
                if conditions.all(|it| holds(it, wide, call.arguments[it.index as usize])) {
                    let ranks: Vec<Rank> = alternative.iter().map(|it| rank(it, wide)).collect();
                    matching.push((!ranks.is_empty(), ranks, action));
                }
            }
        }
        // Without conditions first, and then the first of the profile among equals.
        matching.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        matching.first().map_or(default, |(_, _, action)| *action)
    }
}

/// Numbers around everything where verdicts may change.
fn numbers() -> impl Iterator<Item = u32> {
    let around = |middle: u32| (0..=10).map(move |step| middle.wrapping_sub(5).wrapping_add(step));
    (0..=600)
        .chain(0xf_0000..=0xf_0010)
        .chain((0..=600).map(|number| number | X32_BIT))
        .chain([X32_BIT, 2 * X32_BIT, 3 * X32_BIT, 0].into_iter().flat_map(around))
}

const ARCHES: [Arch; 7] =
    [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm, Arch::Riscv64, Arch::Ppc64le, Arch::Loongarch64];

fn assert_as_model(profile: &Profile, arguments: &[[u64; 6]]) -> usize {
    let program = compile(profile).expect("compiles");
    assert_valid(&program);
    let model = Model::new(profile);
    let mut calls = 0;
    for arch in ARCHES {
        for number in numbers() {
            for arguments in arguments {
                let call = Call { number, arch: arch.audit(), arguments: *arguments };
                let (is, expect) = (run(&program, &call), model.run(&call));
                assert_eq!(
                    is,
                    expect,
                    "{} {number:#x} {arguments:#x?}: {is:#x}, not {expect:#x}",
                    arch.name()
                );
                calls += 1;
            }
        }
    }
    calls
}

fn default_profile(capabilities: &[&str], x32: bool) -> Profile {
    let profile = buildkit_executor_oci::default_profile(capabilities, x32);
    serde_json::from_str(&serde_json::to_string(&profile).expect("serializable")).expect("a profile")
}

/// Values around those which the default profile compares with.
fn default_values() -> Vec<[u64; 6]> {
    let mut values: Vec<u64> =
        vec![0, 1, 8, 37, 38, 39, 40, 41, 0x2_0000, 0x2_0008, 0x7e02_0000, 0x1000_0000, 0x11];
    values.extend([0xffff_fffe, 0xffff_ffff, u64::MAX]);
    let high: Vec<u64> = values.iter().map(|value| value | 1 << 32).collect();
    values.extend(high);
    values.iter().map(|value| [*value; 6]).collect()
}

#[test]
fn default_profile_has_its_verdicts() {
    for capabilities in [&["CAP_CHOWN"][..], &["CAP_SYS_ADMIN", "CAP_BPF"], &[]] {
        for x32 in [false, true] {
            assert_as_model(&default_profile(capabilities, x32), &default_values());
        }
    }
}

#[test]
fn default_profile_for_other_architectures() {
    let mut profile = default_profile(&["CAP_CHOWN"], true);
    profile.architectures = Arch::ALL.map(|arch| arch.name().to_owned()).to_vec();
    assert_as_model(&profile, &default_values());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_as_they_are_known() {
    let program = compile(&default_profile(&["CAP_CHOWN"], true)).expect("compiles");
    let (x86_64, x86) = (Arch::X86_64, Arch::X86);
    for (arch, number, arguments, expect) in [
        (x86_64, 0, &[][..], ALLOW),
        // personality
        (x86_64, 135, &[0], ALLOW),
        (x86_64, 135, &[0x4_0000], EPERM),
        (x86, 136, &[0xffff_ffff], ALLOW),
        // keyctl, io_uring_setup, mount
        (x86_64, 250, &[], EPERM),
        (x86_64, 425, &[], EPERM),
        (x86, 21, &[], EPERM),
        // socket
        (x86_64, 41, &[2], ALLOW),
        (x86_64, 41, &[38], EPERM),
        (x86_64, 41, &[40], EPERM),
        (x86_64, 41, &[41], ALLOW),
        (x86, 359, &[40], EPERM),
        // socketcall and ipc
        (x86, 102, &[1], ALLOW),
        (x86, 117, &[1], ALLOW),
        // clone and clone3
        (x86_64, 56, &[0x11], ALLOW),
        (x86_64, 56, &[0x1000_0000], EPERM),
        (x86_64, 435, &[], ENOSYS),
        (x86, 120, &[0x1000_0000], EPERM),
        // rt_sigaction and execve of x32, and the numbers that x86_64 has for them
        (x86_64, X32_BIT | 512, &[], ALLOW),
        (x86_64, X32_BIT | 520, &[], ALLOW),
        (x86_64, X32_BIT | 13, &[], EPERM),
        (x86_64, X32_BIT | 59, &[], EPERM),
        // numbers to come
        (x86_64, 467, &[], ENOSYS),
        (x86_64, X32_BIT | 548, &[], ENOSYS),
        (x86, 9999, &[], ENOSYS),
        (x86_64, u32::MAX, &[], ENOSYS),
        (Arch::Aarch64, 63, &[], KILL),
    ] {
        let call = Call::new(arch, number, arguments);
        assert_eq!(run(&program, &call), expect, "{} {number:#x} {arguments:x?}", arch.name());
    }
    let program = compile(&default_profile(&["CAP_CHOWN"], false)).expect("compiles");
    for (number, expect) in [(0, ALLOW), (X32_BIT, KILL), (X32_BIT | 520, KILL), (u32::MAX, EPERM)] {
        assert_eq!(run(&program, &Call::new(x86_64, number, &[])), expect, "{number:#x}");
    }
}

fn rule(names: &[&str], action: &str, args: &[(u32, &str, u64, u64)]) -> Rule {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let args = args.iter().map(|(index, op, value, value_two)| Argument {
        index: *index,
        value: *value,
        value_two: *value_two,
        op: format!("SCMP_CMP_{op}"),
    });
    Rule { names, action: format!("SCMP_ACT_{action}"), errno_ret: None, args: args.collect() }
}

fn profile(default_action: &str, syscalls: Vec<Rule>) -> Profile {
    Profile { default_action: format!("SCMP_ACT_{default_action}"), syscalls, ..Profile::default() }
}

fn native(name: &str) -> u32 {
    let mut found = None;
    Arch::native().expect("supported").each(|it, number| found = found.or((it == name).then_some(number)));
    found.expect("known")
}

fn verdict(profile: &Profile, name: &str, arguments: &[u64]) -> u32 {
    let program = compile(profile).expect("compiles");
    assert_valid(&program);
    run(&program, &Call::new(Arch::native().expect("supported"), native(name), arguments))
}

#[test]
fn rules_without_conditions_win() {
    let conditional = || rule(&["read"], "TRAP", &[(0, "EQ", 1, 0)]);
    for rules in [
        vec![conditional(), rule(&["read"], "ALLOW", &[]), rule(&["read"], "KILL", &[])],
        vec![rule(&["read", "read"], "ALLOW", &[]), rule(&["read"], "KILL", &[]), conditional()],
    ] {
        assert_eq!(verdict(&profile("ERRNO", rules), "read", &[1]), ALLOW);
    }
    // Nothing is compared.
    let nothing = rule(&["read"], "ALLOW", &[(0, "MASKED_EQ", 0, 7)]);
    assert_eq!(verdict(&profile("ERRNO", vec![conditional(), nothing]), "read", &[1]), ALLOW);
}

#[test]
fn rules_that_do_the_default_are_passed_over() {
    let rules = vec![rule(&["read"], "ERRNO", &[]), rule(&["read"], "ALLOW", &[(0, "EQ", 1, 0)])];
    let profile = profile("ERRNO", rules);
    assert_eq!(verdict(&profile, "read", &[1]), ALLOW);
    assert_eq!(verdict(&profile, "read", &[2]), EPERM);
}

#[test]
fn conditions_of_a_rule() {
    let both = profile("ERRNO", vec![rule(&["read"], "ALLOW", &[(1, "GE", 5, 0), (0, "NE", 1, 0)])]);
    for (arguments, expect) in [([0, 5], ALLOW), ([1, 5], EPERM), ([0, 4], EPERM), ([1 << 32 | 1, 5], ALLOW)]
    {
        assert_eq!(verdict(&both, "read", &arguments), expect, "{arguments:?}");
    }
    let any = profile(
        "ERRNO",
        vec![rule(&["read"], "ALLOW", &[(0, "EQ", 5, 0), (0, "EQ", 6, 0), (1, "EQ", 7, 0)])],
    );
    for (arguments, expect) in [([5, 0], ALLOW), ([6, 0], ALLOW), ([0, 7], ALLOW), ([0, 0], EPERM)] {
        assert_eq!(verdict(&any, "read", &arguments), expect, "{arguments:?}");
    }
}

#[test]
fn the_more_specific_rule_comes_first() {
    let rules =
        vec![rule(&["read"], "ALLOW", &[(0, "GT", 3, 0)]), rule(&["read"], "KILL", &[(0, "EQ", 5, 0)])];
    let profile = profile("ERRNO", rules);
    for (value, expect) in [(3, EPERM), (4, ALLOW), (5, KILL)] {
        assert_eq!(verdict(&profile, "read", &[value]), expect, "{value}");
    }
    let rules =
        vec![rule(&["read"], "ALLOW", &[(0, "GE", 3, 0)]), rule(&["read"], "KILL", &[(0, "GT", 3, 0)])];
    let profile = self::profile("ERRNO", rules);
    for (value, expect) in [(2, EPERM), (3, ALLOW), (4, KILL)] {
        assert_eq!(verdict(&profile, "read", &[value]), expect, "{value}");
    }
}

#[test]
fn contradictions_are_errors() {
    let one = || rule(&["read"], "ALLOW", &[(0, "EQ", 1, 0)]);
    let other = || rule(&["read"], "KILL", &[(0, "EQ", 1, 0)]);
    let longer = || rule(&["read"], "KILL", &[(0, "EQ", 1, 0), (1, "EQ", 1, 0)]);
    for rules in [vec![one(), other()], vec![longer(), one()]] {
        assert!(matches!(compile(&profile("ERRNO", rules)), Err(Error::Conflict { .. })));
    }
    // The later rule says nothing new.
    assert_eq!(verdict(&profile("ERRNO", vec![one(), longer()]), "read", &[1, 1]), ALLOW);
    assert_eq!(verdict(&profile("ERRNO", vec![one(), one()]), "read", &[1]), ALLOW);
}

#[test]
fn multiplexed_calls() {
    let mut refuse = profile("ALLOW", vec![rule(&["socket"], "ERRNO", &[(0, "EQ", 40, 0)])]);
    refuse.architectures = vec!["SCMP_ARCH_X86".into()];
    let program = compile(&refuse).expect("compiles");
    for (number, argument, expect) in
        [(359, 40, EPERM), (359, 41, ALLOW), (102, 1, EPERM), (102, 2, ALLOW), (117, 1, ALLOW)]
    {
        assert_eq!(run(&program, &Call::new(Arch::X86, number, &[argument])), expect, "{number} {argument}");
    }
}

#[test]
fn default_actions_that_let_calls_pass_do_so_with_new_ones() {
    for (default, expect) in
        [("ALLOW", ALLOW), ("LOG", 0x7ffc_0000), ("TRACE", 0x7ff0_0001), ("KILL", ENOSYS), ("TRAP", ENOSYS)]
    {
        let program =
            compile(&profile(default, vec![rule(&["read", "write"], "ERRNO", &[])])).expect("compiles");
        let call = Call::new(Arch::native().expect("supported"), 100_000, &[]);
        assert_eq!(run(&program, &call), expect, "{default}");
    }
}

#[test]
fn bad_profiles_are_errors() {
    let good = || profile("ERRNO", vec![rule(&["read"], "ALLOW", &[(0, "EQ", 1, 0)])]);
    let check = |change: fn(&mut Profile), expect: Error| {
        let mut profile = good();
        change(&mut profile);
        assert_eq!(compile(&profile), Err(expect));
    };
    check(|it| it.default_action = "ALLOW".into(), Error::Action("ALLOW".into()));
    check(|it| it.syscalls[0].action = "SCMP_ACT_NOTIFY".into(), Error::Action("SCMP_ACT_NOTIFY".into()));
    check(
        |it| it.architectures = vec!["SCMP_ARCH_S390".into()],
        Error::Architecture("SCMP_ARCH_S390".into()),
    );
    check(
        |it| it.flags = vec!["SECCOMP_FILTER_FLAG_LOG".into()],
        Error::Flag("SECCOMP_FILTER_FLAG_LOG".into()),
    );
    check(|it| it.syscalls[0].args[0].index = 6, Error::ArgumentIndex(6));
    check(|it| it.syscalls[0].args[0].op = String::new(), Error::Operator(String::new()));
    check(|it| it.syscalls[0].names.push(String::new()), Error::EmptyName);
    check(|it| it.default_errno_ret = Some(0x1_0000), Error::ErrorNumber(0x1_0000));
}

#[test]
fn unknown_fields_are_errors() {
    for text in [
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent"}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "a", "name": "b"}]}"#,
        r#"{"architectures": []}"#,
    ] {
        assert!(serde_json::from_str::<Profile>(text).is_err(), "{text}");
    }
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [{"names": ["read"],
        "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 18446744073709551615, "valueTwo": 1,
        "op": "SCMP_CMP_EQ"}]}]}"#;
    let profile: Profile = serde_json::from_str(text).expect("a profile");
    assert_eq!(verdict(&profile, "read", &[u64::MAX]), ALLOW);
    assert_eq!(verdict(&profile, "read", &[0]), ENOSYS);
}

#[test]
fn huge_profiles_are_errors() {
    let many = |count: u64| {
        (0..count).map(|value| rule(&["read"], "ALLOW", &[(0, "EQ", value, 0)])).collect::<Vec<Rule>>()
    };
    assert_valid(&compile(&profile("ERRNO", many(700))).expect("compiles"));
    assert_eq!(compile(&profile("ERRNO", many(2000))), Err(Error::TooLong));
    assert_eq!(compile(&profile("ERRNO", many(100_000))), Err(Error::TooLong));
    let values: Vec<(u32, &str, u64, u64)> = (0..100_000).map(|value| (0, "EQ", value, 0)).collect();
    assert_eq!(compile(&profile("ERRNO", vec![rule(&["read"], "ALLOW", &values)])), Err(Error::TooLong));
    let mut names = vec!["no such call"; 1_000_000];
    names.extend(["read"; 1000]);
    assert_eq!(verdict(&profile("ERRNO", vec![rule(&names, "ALLOW", &[])]), "read", &[]), ALLOW);
}

#[test]
fn many_checks_need_far_jumps() {
    let mut names = Vec::new();
    Arch::native().expect("supported").each(|name, _| names.push(name));
    let rules = (0..names.len() as u64).zip(&names).map(|(value, name)| {
        rule(&[name], if value % 2 == 0 { "ALLOW" } else { "TRAP" }, &[(0, "GT", value, 0)])
    });
    let profile = profile("KILL", rules.collect());
    assert_as_model(&profile, &[[0; 6], [100; 6], [1000; 6]]);
}

fn any_argument() -> impl Strategy<Value = Argument> {
    let value = prop_oneof![0..4_u64, Just(1 << 32), Just(1 << 32 | 1), Just(0xffff_ffff), Just(u64::MAX)];
    let op = proptest::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    (0..3_u32, value.clone(), value, op).prop_map(|(index, value, value_two, op)| Argument {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let names =
        ["read", "write", "open", "socket", "accept", "semop", "socketcall", "ioctl", "execve", "clone3"];
    let names = proptest::collection::vec(proptest::sample::select(names.to_vec()), 1..4);
    let action =
        proptest::sample::select(vec!["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "LOG", "TRACE"]);
    let args = proptest::collection::vec(any_argument(), 0..3);
    (names, action, proptest::option::of(1..3_u32), args).prop_map(|(names, action, errno_ret, args)| Rule {
        names: names.into_iter().map(str::to_owned).collect(),
        action: format!("SCMP_ACT_{action}"),
        errno_ret,
        args,
    })
}

fn any_profile() -> impl Strategy<Value = Profile> {
    let action = proptest::sample::select(vec!["ALLOW", "ERRNO", "KILL", "LOG"]);
    let arches = proptest::sample::subsequence(Arch::ALL.map(Arch::name).to_vec(), 0..4);
    (action, arches, proptest::collection::vec(any_rule(), 0..6)).prop_map(|(action, arches, syscalls)| {
        Profile {
            default_action: format!("SCMP_ACT_{action}"),
            architectures: arches.into_iter().map(str::to_owned).collect(),
            syscalls,
            ..Profile::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_profile_has_its_verdicts(
        profile in any_profile(),
        seed in proptest::collection::vec(proptest::sample::select(
            vec![0, 1, 2, 3, 4, 5, 1 << 32, 1 << 32 | 1, 1 << 32 | 2, 0xffff_ffff, u64::MAX],
        ), 24),
    ) {
        match compile(&profile) {
            Err(Error::Conflict { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok(_) => {
                let arguments: Vec<[u64; 6]> =
                    seed.chunks(6).map(|chunk| chunk.try_into().expect("six")).collect();
                assert_as_model(&profile, &arguments);
            }
        }
    }
}
