use std::collections::HashSet;
use std::fmt;

use crate::{Failing, FakeOp};

/// A small generator of numbers: the same seed gives the same program everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) as usize).checked_rem(limit).unwrap_or(0)
    }

    /// Whether a die with `sides` shows its first side.
    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}

/// A vertex of a program.
#[derive(Clone, Debug)]
pub struct ProgramVertex {
    /// What it does: place in [`Program::kinds`].
    pub kind: usize,
    /// Inputs as (place of an earlier vertex, output).
    pub inputs: Vec<(usize, u32)>,
}

/// A build of a program.
#[derive(Clone, Debug)]
pub struct ProgramJob {
    /// Wanted edges.
    pub targets: Vec<(usize, u32)>,
    /// Vertices that ignore the cache.
    pub ignoring: HashSet<usize>,
}

/// A random graph and builds of it.
///
/// Vertices of one kind have the same cache maps, so vertices with different ids have equal keys when
/// their inputs have. What an op does follows from its kind alone.
#[derive(Clone)]
pub struct Program {
    /// Where it came from.
    pub seed: u64,
    /// Ops by kind; the number of inputs is part of the kind.
    pub kinds: Vec<(FakeOp, usize)>,
    /// Vertices in topological order.
    pub vertices: Vec<ProgramVertex>,
    /// Builds.
    pub jobs: Vec<ProgramJob>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for (place, vertex) in self.vertices.iter().enumerate() {
            let Some((op, _)) = self.kinds.get(vertex.kind) else { continue };
            writeln!(
                f,
                "  v{place}: kind {} {:?} maps {:?} content {:?} class {:?} outputs {} {:?}",
                vertex.kind, vertex.inputs, op.maps, op.content, op.same_content, op.outputs, op.failing
            )?;
        }
        for job in &self.jobs {
            writeln!(f, "  job {:?} ignoring {:?}", job.targets, job.ignoring)?;
        }
        Ok(())
    }
}

/// What a generated program may contain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// Ops that fail.
    pub failures: bool,
    /// Vertices that ignore the cache.
    pub ignoring: bool,
}

impl Program {
    /// The program of a seed.
    pub fn generate(seed: u64, features: Features) -> Self {
        let mut random = Random::new(seed);
        let kinds: Vec<(FakeOp, usize)> =
            (0..3 + random.below(4)).map(|k| kind(k, &mut random, features)).collect();
        let mut vertices: Vec<ProgramVertex> = Vec::new();
        for place in 0..2 + random.below(9) {
            let usable: Vec<usize> = (0..kinds.len())
                .filter(|k| {
                    kinds.get(*k).is_some_and(|(_, inputs)| (*inputs == 0) == (place < 2) || place >= 2)
                })
                .collect();
            let kind = usable.get(random.below(usable.len())).copied().unwrap_or_default();
            let count = kinds.get(kind).map_or(0, |(_, inputs)| *inputs);
            let inputs = (0..count)
                .map(|_| {
                    let input = random.below(place);
                    let outputs =
                        vertices.get(input).and_then(|v| kinds.get(v.kind)).map_or(1, |(op, _)| op.outputs);
                    (input, random.below(outputs.max(1) as usize) as u32)
                })
                .collect();
            vertices.push(ProgramVertex { kind, inputs });
        }
        let jobs = (0..1 + random.below(4))
            .map(|_| {
                let targets = (0..1 + random.below(2)).map(|_| {
                    let place = vertices.len() - 1 - random.below(vertices.len().min(4));
                    let outputs =
                        vertices.get(place).and_then(|v| kinds.get(v.kind)).map_or(1, |(op, _)| op.outputs);
                    (place, random.below(outputs.max(1) as usize) as u32)
                });
                let targets = targets.collect();
                let ignoring = if features.ignoring && random.one_in(2) {
                    (0..vertices.len()).filter(|_| random.one_in(5)).collect()
                } else {
                    HashSet::new()
                };
                ProgramJob { targets, ignoring }
            })
            .collect();
        Self { seed, kinds, vertices, jobs }
    }

    /// The op of a vertex.
    pub fn op(&self, place: usize) -> &FakeOp {
        &self.kinds[self.vertices[place].kind].0
    }
}

fn kind(number: usize, random: &mut Random, features: Features) -> (FakeOp, usize) {
    // The first kinds have no inputs, so that there is something to begin with.
    let inputs = if number < 2 { 0 } else { 1 + random.below(3) };
    let maps = if inputs == 0 && random.one_in(3) {
        vec![format!("m{number}"), format!("c{}", number / 2)]
    } else {
        vec![format!("m{number}")]
    };
    // Kinds with the same last map make the same results.
    let own = maps.len() == 1;
    let op = FakeOp {
        name: format!("k{number}"),
        maps,
        outputs: if own { 1 + random.below(5) as u32 / 4 } else { 1 },
        content: (0..inputs).filter(|_| random.one_in(2)).collect(),
        prepare: (0..inputs).filter(|_| random.one_in(6)).collect(),
        selectors: (0..inputs)
            .filter(|_| random.one_in(4))
            .map(|input| (input, format!("s{input}")))
            .collect(),
        same_content: (own && random.one_in(2)).then(|| format!("class{}", random.below(2))),
        failing: match features.failures {
            true if own && random.one_in(12) => Failing::Exec,
            true if own && random.one_in(30) => Failing::Map,
            _ => Failing::No,
        },
        ..FakeOp::default()
    };
    (op, inputs)
}
