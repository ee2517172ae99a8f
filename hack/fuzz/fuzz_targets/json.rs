//! Ops as JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| buildkit_solver_pb::json::fuzz_json(text));
