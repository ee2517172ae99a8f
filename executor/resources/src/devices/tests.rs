use proptest::prelude::*;

use super::ebpf::{Instruction, number_of, program};
use super::*;

/// A use of a device.
#[derive(Clone, Copy, Debug)]
struct Use {
    kind: DeviceKind,
    major: u32,
    minor: u32,
    access: Access,
}

/// The meaning of rules: for each access, the last rule about it decides.
fn last_rule_wins(rules: &[DeviceRule], wanted: Use) -> bool {
    let number = |rule: Option<u32>, wanted: u32| rule.is_none_or(|rule| rule == wanted);
    [Access::READ, Access::WRITE, Access::MKNOD].into_iter().filter(|one| wanted.access.contains(*one)).all(
        |one| {
            let about = |rule: &&DeviceRule| {
                rule.kind.is_none_or(|kind| kind == wanted.kind)
                    && number(rule.major, wanted.major)
                    && number(rule.minor, wanted.minor)
                    && rule.access.contains(one)
            };
            rules.iter().rev().find(about).is_some_and(|rule| rule.allow)
        },
    )
}

/// What Linux does in version 1 after the same writes.
fn version_1(list: &DeviceList, wanted: Use) -> bool {
    let number = |rule: Option<u32>, wanted: u32| rule.is_none_or(|rule| rule == wanted);
    let mut about = list
        .exceptions
        .iter()
        .filter(|e| e.kind == wanted.kind && number(e.major, wanted.major) && number(e.minor, wanted.minor));
    match list.allowed_by_default {
        true => !about.any(|e| e.access.overlaps(wanted.access)),
        false => about.any(|e| e.access.contains(wanted.access)),
    }
}

/// Runs a program as the kernel would.
fn run(program: &[Instruction], wanted: Use) -> bool {
    let context =
        [u32::from(wanted.access.0) << 16 | number_of(wanted.kind) as u32, wanted.major, wanted.minor];
    let mut registers: [Option<u64>; 11] = [None; 11];
    let mut at = 0_usize;
    loop {
        let instruction = program[at];
        at += 1;
        let immediate = i64::from(instruction.immediate) as u64;
        let to = instruction.destination();
        let value = |register: usize| registers[register].expect("a register that was never set");
        let jump = match instruction.code {
            Instruction::LOAD_WORD => {
                assert_eq!((instruction.source(), registers[1]), (1, None), "only the context is read");
                assert_eq!(instruction.offset % 4, 0);
                registers[to] = Some(u64::from(context[instruction.offset as usize / 4]));
                false
            }
            Instruction::MOVE => {
                registers[to] = Some(value(instruction.source()));
                false
            }
            Instruction::SET => {
                registers[to] = Some(immediate);
                false
            }
            Instruction::AND => {
                registers[to] = Some(value(to) & immediate);
                false
            }
            Instruction::SHIFT_RIGHT => {
                registers[to] = Some(value(to) >> immediate);
                false
            }
            Instruction::JUMP_IF_EQUAL => value(to) == immediate,
            Instruction::JUMP_IF_NOT_EQUAL => value(to) != immediate,
            Instruction::EXIT => return value(0) == 1,
            other => panic!("unexpected instruction {other:#x}"),
        };
        if jump {
            assert!(instruction.offset > 0, "the kernel of old refuses loops");
            at += instruction.offset as usize;
        }
    }
}

fn kind() -> impl Strategy<Value = DeviceKind> {
    prop_oneof![Just(DeviceKind::Char), Just(DeviceKind::Block)]
}

fn access() -> impl Strategy<Value = Access> {
    (1_u8..8).prop_map(Access)
}

/// Few numbers, so that rules meet.
fn rule() -> impl Strategy<Value = DeviceRule> {
    let number = || proptest::option::of(0_u32..3);
    let one = (any::<bool>(), kind(), number(), number(), access()).prop_map(
        |(allow, kind, major, minor, access)| DeviceRule { allow, kind: Some(kind), major, minor, access },
    );
    prop_oneof![1 => any::<bool>().prop_map(DeviceRule::all), 9 => one]
}

fn wanted() -> impl Strategy<Value = Use> {
    (kind(), 0_u32..4, 0_u32..4, access()).prop_map(|(kind, major, minor, access)| Use {
        kind,
        major,
        minor,
        access,
    })
}

/// A configuration as executors make it: everything denied or allowed, then allowed devices.
fn usual() -> impl Strategy<Value = Vec<DeviceRule>> {
    (any::<bool>(), proptest::collection::vec(rule(), 0..6)).prop_map(|(all, given)| {
        let mut rules = vec![DeviceRule::all(all)];
        rules.extend(
            given.into_iter().filter(|rule| rule.kind.is_some()).map(|r| DeviceRule { allow: true, ..r }),
        );
        rules.extend(default_device_rules());
        rules
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn all_versions_decide_alike(
        rules in proptest::collection::vec(rule(), 0..8),
        uses in proptest::collection::vec(wanted(), 20),
    ) {
        let Ok(list) = DeviceList::new(&rules) else { return Ok(()) };
        let program = program(&list);
        for wanted in uses {
            let granted = run(&program, wanted);
            prop_assert_eq!(granted, version_1(&list, wanted), "{:?}", wanted);
            let meant = last_rule_wins(&rules, wanted);
            // Accesses at once need one exception that has them all: more is never granted.
            let at_once = wanted.access.0.count_ones() > 1 && !list.allowed_by_default;
            prop_assert!(granted == meant || (at_once && meant), "{:?} of {:?}", wanted, list);
        }
    }

    #[test]
    fn usual_rules_are_never_refused(rules in usual(), uses in proptest::collection::vec(wanted(), 20)) {
        let list = DeviceList::new(&rules).expect("rules without contradiction");
        let program = program(&list);
        for mut wanted in uses {
            wanted.access = [Access::READ, Access::WRITE, Access::MKNOD][wanted.access.0 as usize % 3];
            prop_assert_eq!(run(&program, wanted), last_rule_wins(&rules, wanted));
        }
    }

    #[test]
    fn files_of_version_1_are_told_the_same(rules in proptest::collection::vec(rule(), 0..8)) {
        let Ok(list) = DeviceList::new(&rules) else { return Ok(()) };
        // What the kernel makes of the writes: equal exceptions are merged, and the rest kept apart.
        for (at, one) in list.exceptions.iter().enumerate() {
            for other in &list.exceptions[at + 1..] {
                prop_assert!(!(one.covers(other) && other.covers(one)), "{} and {}", one, other);
            }
        }
    }
}

fn standard() -> Vec<DeviceRule> {
    let mut rules = vec![DeviceRule::all(false)];
    rules.extend(default_device_rules());
    rules
}

#[test]
fn the_standard_rules() {
    let list = DeviceList::new(&standard()).expect("rules");
    let lines: Vec<_> = list.exceptions.iter().map(ToString::to_string).collect();
    let expected = [
        "c *:* m",
        "b *:* m",
        "c 1:3 rwm",
        "c 1:8 rwm",
        "c 1:7 rwm",
        "c 5:0 rwm",
        "c 1:5 rwm",
        "c 1:9 rwm",
        "c 136:* rwm",
        "c 5:2 rwm",
        "c 10:200 rwm",
    ];
    assert!(!list.allowed_by_default);
    assert_eq!(lines, expected);
    let program = program(&list);
    let disk = Use { kind: DeviceKind::Block, major: 254, minor: 0, access: Access::READ };
    assert!(!run(&program, disk));
    assert!(run(&program, Use { access: Access::MKNOD, ..disk }));
    assert!(!run(&program, Use { access: Access::ALL, ..disk }));
    let null = Use { kind: DeviceKind::Char, major: 1, minor: 3, access: Access::ALL };
    assert!(run(&program, null));
    assert!(!run(&program, Use { minor: 1, access: Access::READ, ..null }), "memory of the host");
    assert!(!run(&program, Use { major: 5, minor: 1, access: Access::WRITE, ..null }), "console of the host");
}

#[test]
fn privileged_containers_get_few_exceptions() {
    let mut rules = vec![DeviceRule::all(false)];
    for kind in [DeviceKind::Char, DeviceKind::Block] {
        rules.push(DeviceRule { kind: Some(kind), ..DeviceRule::all(true) });
    }
    rules.extend(default_device_rules());
    let list = DeviceList::new(&rules).expect("rules");
    assert_eq!(list.exceptions.len(), 2, "{list:?}");
}

#[test]
fn rules_that_cannot_be_honoured_are_refused() {
    let null = DeviceRule {
        allow: false,
        kind: Some(DeviceKind::Char),
        major: Some(1),
        minor: Some(3),
        access: Access::ALL,
    };
    let all = DeviceRule { allow: true, major: None, minor: None, ..null };
    let refused: [&[DeviceRule]; 7] = [
        &[all, null],
        &[DeviceRule::all(true), DeviceRule { allow: false, ..all }, DeviceRule { allow: true, ..null }],
        &[DeviceRule { access: Access::NONE, ..null }],
        &[DeviceRule { kind: None, ..null }],
        &[DeviceRule { access: Access::READ, ..DeviceRule::all(true) }],
        // Wildcards in the eyes of the kernel.
        &[DeviceRule { major: Some(u32::MAX), allow: true, ..null }],
        &[DeviceRule { minor: Some(u32::MAX), allow: true, ..null }],
    ];
    for rules in refused {
        let result = DeviceList::new(rules).map_err(|error| error.kind());
        assert_eq!(result, Err(io::ErrorKind::InvalidInput), "{rules:?}");
    }
    // A wider rule takes back a narrower one, of which runc would leave the device open.
    let list = DeviceList::new(&[DeviceRule { allow: true, ..null }, DeviceRule { allow: false, ..all }]);
    assert_eq!(list.expect("rules").exceptions, []);
}

#[test]
fn letters_of_access() {
    for (letters, expected) in [("rwm", "rwm"), ("m", "m"), ("wr", "rw"), ("rr", "r")] {
        assert_eq!(Access::parse(letters).expect("access").to_string(), expected);
    }
    for letters in ["", "x", "rwx", "R", "r w"] {
        assert_eq!(Access::parse(letters), None, "{letters:?}");
    }
}
