//! Ops of a definition, as any client sends them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| buildkit_solver_pb::fuzz_raw_op(bytes));
