//! Fake ops, generated programs and an oracle for testing the solver.
#![forbid(unsafe_code)]

mod fake;

pub use fake::{Failing, FakeDomain, FakeError, FakeGraph, FakeOp, FakeOutput, FakeResults, digest, output};
