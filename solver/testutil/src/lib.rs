//! Fake ops, generated programs and an oracle for testing the solver.
#![forbid(unsafe_code)]
