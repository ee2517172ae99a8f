//! Ops and definitions, as any client sends them.
#![no_main]

use std::collections::HashMap;

use buildkit_solver_llbsolver_ops::{LoadOptions, Loaded};
use buildkit_solver_pb as pb;
use prost::Message as _;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    buildkit_solver_pb::fuzz_raw_op(bytes);
    if let Ok(definition) = pb::Definition::decode(bytes) {
        load(definition.clone());
        load(linked(definition));
    }
});

/// The definition with digests that fit, which nobody guesses: each input is one of the ops before, by the
/// length of what is in its place, and the last op asks for the one before it.
fn linked(definition: pb::Definition) -> pb::Definition {
    let mut digests: Vec<String> = Vec::new();
    let mut def = Vec::new();
    for bytes in &definition.def {
        let Ok(mut op) = pb::Op::decode(bytes.clone()) else { continue };
        if digests.is_empty() {
            op.inputs.clear();
        }
        for input in &mut op.inputs {
            input.digest = digests[input.digest.len() % digests.len()].clone();
        }
        digests.push(op.digest().to_string());
        def.push(op.encode_deterministic().into());
    }
    if let Some(digest) = digests.last() {
        let inputs = vec![pb::Input { digest: digest.clone(), index: 0 }];
        def.push(pb::Op { inputs, ..pb::Op::default() }.encode_deterministic().into());
    }
    let metadata = definition.metadata.into_iter().zip(&digests).map(|(mut entry, digest)| {
        entry.key = Some(digest.clone());
        entry
    });
    pb::Definition { metadata: metadata.collect(), def, ..definition }
}

/// What is loaded can be relied on: ids are there once, inputs come first and have the output.
fn load(definition: pb::Definition) {
    let platform = pb::Platform::new("linux", "amd64");
    let options = LoadOptions { default_platform: &platform, caps: None, depth: 0 };
    let Ok(loaded) = Loaded::new(definition, &options) else { return };
    let mut outputs = HashMap::new();
    for vertex in &loaded.vertices {
        for input in &vertex.inputs {
            assert!(input.output < outputs[&input.vertex]);
        }
        assert_eq!(vertex.inputs.len(), vertex.payload.inputs);
        assert!(outputs.insert(vertex.id.clone(), vertex.outputs).is_none());
    }
    assert!(loaded.root.output < outputs[&loaded.root.vertex]);
    let _ = loaded.pruned_cache_mounts();
}
