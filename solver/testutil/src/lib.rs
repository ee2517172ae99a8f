//! Fake ops, generated programs and an oracle for testing the solver.
#![forbid(unsafe_code)]

mod fake;
mod ladder;
mod program;
mod sim;

pub use fake::{
    Deaf, Failing, FakeDomain, FakeError, FakeGraph, FakeOp, FakeOutput, FakeResults, digest, output,
};
pub use program::{Features, Program, ProgramJob, ProgramVertex, Random};
pub use sim::{JobReport, Play, Simulation, repeats_itself};
