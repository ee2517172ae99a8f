//! Generated programs on the bare state machine. A failing seed is printed; it becomes a line of
//! [`REGRESSIONS`].

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use buildkit_solver_testutil::{Features, Play, Program, Simulation, repeats_itself};

/// Seeds that once failed, played in all ways.
const REGRESSIONS: &[u64] = &[6, 9, 11, 3100, 4651, 8110, 109_527, 305_664, 402_439];

const PLAIN: Play = Play { concurrent: false, cancels: false, losses: false };
const TOGETHER: Play = Play { concurrent: true, cancels: false, losses: false };
const CANCELS: Play = Play { concurrent: true, cancels: true, losses: false };
const LOSSES: Play = Play { concurrent: true, cancels: true, losses: true };

fn check(seed: u64, features: Features, play: Play) {
    let program = Program::generate(seed, features);
    let outcome = catch_unwind(AssertUnwindSafe(|| Simulation::run(&program, play)));
    let reports = match outcome {
        Ok(Ok((reports, _))) => reports,
        Ok(Err(broken)) => panic!("{broken}\n{play:?} {program:?}"),
        Err(_) => panic!("panicked\n{play:?} {program:?}"),
    };
    // One with several maps is known by those that were asked for, which may be others the next time.
    let one_map = program.kinds.iter().all(|(op, _)| op.maps.len() == 1);
    if one_map && !play.concurrent && !features.failures && !features.ignoring && !repeats_itself(&program) {
        // What was made once is found again, whatever the ids of vertices and the way to it.
        let mut made = HashSet::new();
        for report in reports {
            // Only wanted outputs are saved, so one with several may run again for another of them.
            for (kind, outputs) in report.runs.into_iter().filter(|(_, outputs)| outputs.len() == 1) {
                let again = format!("kind {kind} was made twice: {outputs:?}\n{play:?} {program:?}");
                assert!(made.insert((kind, outputs)), "{again}");
            }
        }
    }
}

fn play(seeds: std::ops::Range<u64>, features: Features, play: Play) {
    let count = buildkit_util_testutil::rounds(seeds.end - seeds.start);
    for seed in seeds.start..seeds.start + count {
        check(seed, features, play);
    }
}

const ALL: Features = Features { failures: true, ignoring: true };
const NONE: Features = Features { failures: false, ignoring: false };

#[test]
fn regressions() {
    for seed in REGRESSIONS {
        for features in [NONE, ALL] {
            for play in [PLAIN, TOGETHER, CANCELS, LOSSES] {
                check(*seed, features, play);
            }
        }
    }
}

#[test]
fn one_after_another() {
    play(0..15_000, NONE, PLAIN);
}

#[test]
fn one_after_another_with_failures() {
    play(100_000..115_000, ALL, PLAIN);
}

#[test]
fn together() {
    play(200_000..225_000, Features { ignoring: false, ..ALL }, TOGETHER);
}

#[test]
fn together_with_cancels() {
    play(300_000..325_000, ALL, CANCELS);
}

#[test]
fn together_with_losses() {
    play(400_000..425_000, ALL, LOSSES);
}
