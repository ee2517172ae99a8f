//! Programs are played by an interpreter and compared with what the profile says.

use proptest::prelude::*;

use super::*;
use crate::profile::{Argument, Rule};

/// What the kernel shows a program of a call.
#[derive(Clone, Copy, Debug)]
struct Call {
    audit: u32,
    number: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, place: u32) -> u32 {
        let mut bytes = Vec::new();
        bytes.extend(self.number.to_ne_bytes());
        bytes.extend(self.audit.to_ne_bytes());
        bytes.extend(0x7fff_1234_5678_u64.to_ne_bytes());
        self.args.iter().for_each(|arg| bytes.extend(arg.to_ne_bytes()));
        let place = place as usize;
        u32::from_ne_bytes(bytes[place..place + 4].try_into().expect("four bytes"))
    }
}

/// Plays a program as the kernel does.
fn play(program: &[Instruction], call: &Call) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x06 => return k,
            code => panic!("unknown code {code:#x}"),
        }
    }
}

/// What the kernel checks before it takes a program (`bpf_check_classic`, `seccomp_check_filter`).
fn check(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= MAX_INSTRUCTIONS);
    for (at, Instruction { code, jt, jf, k }) in program.iter().enumerate() {
        let rest = program.len() - at - 1;
        match code {
            0x20 => assert!(k % 4 == 0 && *k < 64, "load at {k}"),
            0x54 => {}
            0x05 => assert!((*k as usize) < rest),
            0x15 | 0x25 | 0x35 => assert!(usize::from(*jt.max(jf)) < rest),
            0x06 => {}
            code => panic!("unknown code {code:#x}"),
        }
    }
    assert_eq!(program.last().expect("not empty").code, 0x06);
}

/// Numbers of all names in a profile.
type Numbers<'a> = std::collections::HashMap<&'a str, u32>;

/// What a profile says of a call, read as a person would.
fn model(
    profile: &Profile,
    architecture: Architecture,
    numbers: &Numbers<'_>,
    number: u32,
    args: &[u64; 6],
) -> Action {
    let default = Action::parse(&profile.default_action, profile.default_errno_ret).expect("an action");
    let named = |rule: &&Rule| rule.names.iter().any(|name| numbers.get(name.as_str()) == Some(&number));
    let action = |rule: &Rule| Action::parse(&rule.action, rule.errno_ret).expect("an action");
    let holds = |argument: &Argument| {
        let shorten = |value: u64| if architecture.is_wide() { value } else { value & 0xffff_ffff };
        let arg = shorten(args[argument.index as usize]);
        let argument = &Argument {
            value: shorten(argument.value),
            value_two: shorten(argument.value_two),
            ..argument.clone()
        };
        match argument.op.as_str() {
            "SCMP_CMP_NE" => arg != argument.value,
            "SCMP_CMP_LT" => arg < argument.value,
            "SCMP_CMP_LE" => arg <= argument.value,
            "SCMP_CMP_EQ" => arg == argument.value,
            "SCMP_CMP_GE" => arg >= argument.value,
            "SCMP_CMP_GT" => arg > argument.value,
            _ => arg & argument.value == argument.value_two,
        }
    };
    if numbers.values().max().is_some_and(|last| number > *last) {
        return beyond(default);
    }
    let rules = || profile.syscalls.iter().filter(named).filter(|rule| action(rule) != default);
    if let Some(rule) = rules().find(|rule| rule.args.is_empty()) {
        return action(rule);
    }
    let matches = |rule: &&Rule| {
        let mut indexes: Vec<_> = rule.args.iter().map(|argument| argument.index).collect();
        indexes.sort_unstable();
        let distinct = indexes.windows(2).all(|pair| pair[0] != pair[1]);
        if distinct { rule.args.iter().all(holds) } else { rule.args.iter().any(holds) }
    };
    rules().find(matches).map_or(default, action)
}

fn architectures(profile: &Profile) -> Vec<Architecture> {
    let mut all: Vec<_> =
        profile.architectures.iter().map(|name| Architecture::parse(name).expect("known")).collect();
    all.extend(Architecture::native().filter(|native| !all.contains(native)));
    all
}

fn compare(profile: &Profile, numbers: impl Iterator<Item = u32> + Clone, values: &[u64]) {
    let program = compile(profile).expect("a program");
    check(&program);
    for architecture in architectures(profile) {
        let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
        let known: Numbers<'_> =
            names.filter_map(|name| Some((name.as_str(), architecture.number(name)?))).collect();
        for number in numbers.clone() {
            let number = architecture.first_number() + number;
            for (at, value) in values.iter().enumerate() {
                let mut args = [*value; 6];
                args[at % 6] = values[(at * 7 + number as usize) % values.len()];
                let call = Call { audit: architecture.audit(), number, args };
                let expect = model(profile, architecture, &known, number, &args);
                assert_eq!(play(&program, &call), expect.0, "{architecture:?} {call:?}");
            }
        }
    }
}

fn default_profile() -> Profile {
    let profile = buildkit_executor_oci::default_profile(&buildkit_executor_oci::DEFAULT_CAPABILITIES, true);
    serde_json::from_value(serde_json::to_value(profile).expect("serialisable")).expect("a profile")
}

#[test]
fn a2_07_the_default_profile_means_what_it_says() {
    let profile = default_profile();
    let values = [0, 1, 8, 16, 38, 40, 0x2_0000, 0x2_0008, 0x7e02_0000, 0xffff_ffff, 0x1_0000_0026, u64::MAX];
    compare(&profile, 0..1200, &values);
    let length = compile(&profile).expect("a program").len();
    assert!(length < 1000, "{length} instructions");
}

#[test]
fn foreign_calls_end_their_thread() {
    let mut profile = default_profile();
    let native = Architecture::native().expect("a known architecture");
    let call = Call { audit: 0x8000_0016, number: 1, args: [0; 6] };
    assert_eq!(play(&compile(&profile).expect("a program"), &call), 0);
    profile.architectures.clear();
    let program = compile(&profile).expect("a program");
    let read = native.number("read").expect("all have it");
    let verdict = |number| play(&program, &Call { audit: native.audit(), number, args: [0; 6] });
    assert_eq!(verdict(read), 0x7fff_0000);
    assert_eq!(verdict(900), 0x0005_0000 | 38);
    if native == Architecture::X86_64 {
        assert_eq!(verdict(Architecture::X32_MARK + read), 0);
        assert_eq!(verdict(Architecture::X32_MARK - 1), 0x0005_0000 | 38);
        assert_eq!(verdict(u32::MAX), 0x0005_0000 | 38);
        assert_eq!(play(&program, &Call { audit: Architecture::X86.audit(), number: 3, args: [0; 6] }), 0);
    }
}

fn rule(names: &str, action: &str, args: Vec<Argument>) -> Rule {
    let names = names.split(' ').map(str::to_owned).collect();
    Rule { names, action: action.to_owned(), errno_ret: None, args }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let allow = "SCMP_ACT_ALLOW";
    let argument = |index, op: &str| Argument { index, op: op.to_owned(), ..Argument::default() };
    let with = |rules: Vec<Rule>| Profile {
        default_action: "SCMP_ACT_ERRNO".into(),
        syscalls: rules,
        ..Profile::default()
    };
    let error = |profile: &Profile| compile(profile).expect_err("no program").to_string();
    let word = |word: &str| format!("{word:?} in the seccomp profile");
    assert!(compile(&with(vec![])).is_ok());
    assert!(error(&with(vec![rule("read", "SCMP_ACT_NOTIFY", vec![])])).contains(&word("SCMP_ACT_NOTIFY")));
    assert!(error(&with(vec![rule("read", allow, vec![argument(6, "SCMP_CMP_EQ")])])).contains("argument 6"));
    assert!(error(&with(vec![rule("read", allow, vec![argument(0, "EQ")])])).contains(&word("EQ")));
    let twice = vec![rule("read", allow, vec![]), rule("read", "SCMP_ACT_LOG", vec![])];
    assert!(error(&with(twice)).contains("contradicts itself about read"));
    assert!(error(&Profile { flags: vec!["F".into()], ..with(vec![]) }).contains(&word("F")));
    assert!(error(&Profile { architectures: vec!["VAX".into()], ..with(vec![]) }).contains(&word("VAX")));
    assert!(error(&Profile::default()).contains("unknown action"));
    let many = (0..2000).map(|_| rule("read", allow, vec![argument(0, "SCMP_CMP_EQ")])).collect();
    assert!(matches!(compile(&with(many)), Err(Error::TooLong(_))));
}

fn arguments() -> impl Strategy<Value = Vec<Argument>> {
    let ops = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map(|op| format!("SCMP_CMP_{op}"));
    let value = prop::sample::select(vec![0, 1, 2, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX]);
    let argument = (0..3_u32, value.clone(), value, prop::sample::select(ops.to_vec()))
        .prop_map(|(index, value, value_two, op)| Argument { index, value, value_two, op });
    prop::collection::vec(argument, 0..4)
}

fn profiles() -> impl Strategy<Value = Profile> {
    let names =
        ["read", "write", "open", "close", "stat", "clone", "socket", "no_such", "pwritev2", "futex_wake"];
    let names = prop::collection::vec(prop::sample::select(names.to_vec()), 1..4);
    let actions = prop::sample::select(vec!["ALLOW", "ERRNO", "LOG", "KILL_PROCESS", "TRAP"]);
    let conditional = (names, actions.clone(), arguments()).prop_map(|(names, action, mut args)| {
        if args.is_empty() {
            args.push(Argument { op: "SCMP_CMP_EQ".into(), ..Argument::default() });
        }
        rule(&names.join(" "), &format!("SCMP_ACT_{action}"), args)
    });
    let always =
        prop::sample::subsequence(vec!["read", "clone", "mmap", "openat2"], 0..3).prop_map(|names| {
            names.iter().map(|name| rule(name, "SCMP_ACT_ALLOW", Vec::new())).collect::<Vec<_>>()
        });
    let all = if cfg!(target_arch = "x86_64") { vec!["X86_64", "X86", "X32"] } else { Vec::new() };
    let architectures = prop::sample::subsequence(all.clone(), 0..=all.len());
    (prop::collection::vec(conditional, 0..6), always, actions, architectures).prop_map(
        |(mut syscalls, always, default, architectures)| {
            syscalls.extend(always);
            Profile {
                default_action: format!("SCMP_ACT_{default}"),
                default_errno_ret: None,
                architectures: architectures.iter().map(|name| format!("SCMP_ARCH_{name}")).collect(),
                syscalls,
                flags: Vec::new(),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn programs_do_what_profiles_say(profile in profiles()) {
        let values = [0, 1, 2, 3, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX];
        // Those of the names, of some others, and what is beyond.
        let numbers = (0..8).chain([9, 41, 50, 56, 59, 102, 120, 202, 327, 328, 329, 359, 379, 380]).chain(435..460);
        compare(&profile, numbers, &values);
    }

    #[test]
    fn nothing_panics(words in prop::collection::vec("\\PC{0,12}", 5), index in any::<u32>()) {
        let [default_action, action, name, op, architecture] = words.try_into().expect("five words");
        let argument = Argument { index, op, ..Argument::default() };
        let rule = Rule { names: vec![name], action, errno_ret: Some(index), args: vec![argument] };
        let _ = compile(&Profile {
            default_action,
            default_errno_ret: Some(index),
            architectures: vec![architecture],
            syscalls: vec![rule],
            flags: Vec::new(),
        });
    }
}

#[test]
fn comparisons_are_of_whole_values() {
    // The model of the others has the same words; this has numbers.
    let holds = |comparison: &str, arg: u64, value: u64| {
        let argument = Argument { index: 1, value, value_two: 0, op: format!("SCMP_CMP_{comparison}") };
        let profile = Profile {
            default_action: "SCMP_ACT_ERRNO".into(),
            syscalls: vec![rule("read", "SCMP_ACT_ALLOW", vec![argument])],
            ..Profile::default()
        };
        let native = Architecture::native().expect("known");
        let number = native.number("read").expect("all have it");
        let call = Call { audit: native.audit(), number, args: [9, arg, 9, 9, 9, 9] };
        play(&compile(&profile).expect("a program"), &call) == 0x7fff_0000
    };
    let (small, large) = (0xffff_fffe, 0x1_0000_0000);
    for (op, expect) in [
        ("NE", [true, false, true]),
        ("LT", [true, false, false]),
        ("LE", [true, true, false]),
        ("EQ", [false, true, false]),
        ("GE", [false, true, true]),
        ("GT", [false, false, true]),
    ] {
        let found = [holds(op, small, large), holds(op, large, large), holds(op, large + small, large)];
        assert_eq!(found, expect, "{op}");
    }
}
