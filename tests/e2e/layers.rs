//! Layers that builds export have the bytes that the original's have: the definitions and digests recorded in
//! `testdata/layers`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::layout::{Layout, strings};
use crate::sandbox::Sandbox;

/// Each test builds every so many cases.
const GROUPS: usize = 6;

fn recorded() -> Value {
    serde_json::from_str(include_str!("testdata/layers/layers.json")).expect("the recorded layers")
}

/// Builds the cases of one group on one daemon and gives the names of those whose layers are others.
#[track_caller]
fn assert_equal(group: usize) {
    let recorded = recorded();
    let epoch = recorded["source_date_epoch"].as_i64().expect("an epoch");
    let cases = recorded["cases"].as_array().expect("cases");
    let sandbox = Sandbox::new();
    let mut different = Vec::new();
    for case in cases.iter().skip(group).step_by(GROUPS) {
        let name = case["name"].as_str().expect("a name");
        let definition = case["definition"].as_str().expect("a definition");
        let out = sandbox.path(name);
        let mut output = format!(
            "type=oci,compression=uncompressed,force-compression=true,tar=false,dest={}",
            out.display()
        );
        if case["rewrite_timestamp"] == true {
            output.push_str(&format!(",rewrite-timestamp=true,source-date-epoch={epoch}"));
        }
        let built = sandbox
            .build_definition(STANDARD.decode(definition).expect("base64"))
            .args(["--output", &output])
            .run();
        if !built.status.success() {
            different.push(format!("{name} was not built:\n{}", built.text()));
            continue;
        }
        let (made, wanted) = (Layout::open(&out).diff_ids(), strings(&case["diff_ids"]));
        if made != wanted {
            different.push(format!("{name}: {made:#?} instead of {wanted:#?}"));
        }
        if case["rewrite_timestamp"] == true {
            let marked = Layout::open(&out).layer_annotations("buildkit/rewritten-timestamp");
            if marked != vec![Some(epoch.to_string()); made.len()] {
                different.push(format!("{name}: its layers say that they were rewritten to {marked:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn recorded_layers_are_made_again_1() {
    assert_equal(0);
}

#[test]
fn recorded_layers_are_made_again_2() {
    assert_equal(1);
}

#[test]
fn recorded_layers_are_made_again_3() {
    assert_equal(2);
}

#[test]
fn recorded_layers_are_made_again_4() {
    assert_equal(3);
}

#[test]
fn recorded_layers_are_made_again_5() {
    assert_equal(4);
}

#[test]
fn recorded_layers_are_made_again_6() {
    assert_equal(5);
}
