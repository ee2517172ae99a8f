//! Compares keys of ops with those recorded from Go (see `vectors/README.md`).

use std::sync::Arc;

use buildkit_solver_llbsolver_ops::keys::{KeyMap, Selector, key_map, source_key};
use buildkit_solver_llbsolver_ops::{LoadOptions, Loaded};
use buildkit_solver_pb as pb;
use bytes::Bytes;
use pb::RawOp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    op: String,
    preimage: Option<String>,
    digest: Option<String>,
    error: Option<String>,
    #[serde(default)]
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    selector: Option<String>,
    content: Option<Vec<Part>>,
    #[serde(default)]
    unlazy: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    #[serde(default, alias = "Path")]
    path: String,
    #[serde(default, alias = "Wildcard")]
    wildcard: bool,
    #[serde(default, alias = "FollowLinks")]
    follow_links: bool,
    #[serde(default, alias = "IncludePatterns")]
    include: Vec<String>,
    #[serde(default, alias = "ExcludePatterns")]
    exclude: Vec<String>,
    #[serde(default, alias = "RequiredPaths")]
    required: Vec<String>,
}

/// Loads one op through the front door, with an input of as many outputs as it could name.
fn key(op: &[u8]) -> Result<KeyMap, String> {
    let wire = |op: pb::op::Op, inputs| RawOp::new(pb::Op { inputs, op: Some(op), ..pb::Op::default() });
    let raw = RawOp::decode(op).map_err(|error| error.to_string())?;
    let source =
        wire(pb::op::Op::Source(pb::SourceOp { identifier: "local://x".to_owned(), attrs: vec![] }), vec![]);
    let input = pb::Input { digest: source.digest().to_string(), index: 0 };
    let wide = wire(
        pb::op::Op::Passthrough(pb::PassthroughOp { id: "wide".to_owned(), outputs: vec![0; 64] }),
        vec![input],
    );
    // The inputs of recorded ops need not exist: all become one that does.
    let mut op = raw.clone();
    let digests = vec![wide.digest().to_string(); raw.op().inputs.len()];
    op.set_input_digests(digests).map_err(|error| error.to_string())?;
    let last =
        pb::Op { inputs: vec![pb::Input { digest: op.digest().to_string(), index: 0 }], ..pb::Op::default() };
    let definition = pb::Definition {
        def: [source, wide, op, RawOp::new(last)].map(|op| op.encoded().clone()).to_vec(),
        ..pb::Definition::default()
    };
    let platform = pb::Platform::new("linux", "amd64");
    let options = LoadOptions { default_platform: &platform, caps: None, depth: 0 };
    let loaded = Loaded::new(definition, &options).map_err(|error| error.to_string())?;
    let vertex = loaded.vertices.iter().find(|vertex| vertex.id == loaded.root.vertex);
    let payload: Arc<_> = vertex.expect("the root is loaded").payload.clone();
    Ok(key_map(&payload).expect("not a source"))
}

/// Ops for which the original makes a key and fails, or does something else than was asked, when
/// they run. They are refused when they are loaded: part of the reason.
const REFUSED: &[&str] = &[
    // Refused while it is loaded, where the original finds no device.
    "is not registered",
    "mount options for",
    "has no input",
    "is not used",
    "with no action",
    "invalid output",
    "invalid merge",
    "invalid diff",
    "invalid index",
    "no llb definition input",
    "only LLB builder",
    "missing output index",
    "no outputs specified",
    "duplicate output",
    "loop from index",
    "invalid network mode",
    "invalid security mode",
    "invalid mount type",
    "invalid mount cache content",
    "invalid cache sharing",
    "invalid tmpfs size",
    "invalid input index",
    "invalid secondary input index",
    "mounts at /",
    "invalid user index",
    "NUL byte",
    "failed to parse",
    "invalid op",
    "missing input",
    "invalid passthrough",
];

fn is_normal(op: &[u8]) -> bool {
    let op = RawOp::decode(op).expect("was loaded").into_op();
    op.platform.is_none_or(|platform| platform == platform.normalized())
}

fn check(file: &str) -> (usize, usize) {
    let cases: Vec<Case> = serde_json::from_str(file).expect("vectors");
    let (mut same, mut refused) = (0, 0);
    for case in &cases {
        let op = hex::decode(&case.op).expect("hex");
        match (key(&op), &case.error) {
            (Ok(map), None) => {
                if !is_normal(&op) {
                    // The recording went around the step that makes platforms normal.
                    continue;
                }
                assert_eq!(Some(&map.text), case.preimage.as_ref(), "{}", case.name);
                assert_eq!(Some(map.digest.to_string()), case.digest, "{}", case.name);
                assert_eq!(map.inputs.len(), case.deps.len(), "{}", case.name);
                for (input, dep) in map.inputs.iter().zip(&case.deps) {
                    let selector = input.selector.as_ref().map(ToString::to_string);
                    assert_eq!(selector, dep.selector, "{}", case.name);
                    let parts = dep.content.as_ref().map(|parts| {
                        parts
                            .iter()
                            .map(|part| Selector {
                                path: part.path.clone(),
                                wildcard: part.wildcard,
                                follow_links: part.follow_links,
                                include: part.include.clone(),
                                exclude: part.exclude.clone(),
                                required: part.required.clone(),
                            })
                            .collect::<Vec<_>>()
                    });
                    assert_eq!(input.content, parts, "{}", case.name);
                    assert_eq!(input.prepare, dep.unlazy, "{}", case.name);
                }
                same += 1;
            }
            (Ok(map), Some(error)) => panic!("{}: {} should fail: {error}", case.name, map.text),
            (Err(_), Some(_)) => same += 1,
            (Err(error), None) => {
                let known = REFUSED.iter().any(|reason| error.contains(reason));
                assert!(known, "{}: {error}", case.name);
                refused += 1;
            }
        }
    }
    (same, refused)
}

#[test]
fn exec_keys() {
    let (same, refused) = check(include_str!("vectors/exec.json"));
    assert!(same > refused * 5);
}

#[test]
fn file_keys() {
    let (same, refused) = check(include_str!("vectors/file.json"));
    assert!(same > refused);
}

#[test]
fn other_keys() {
    let (same, refused) = check(include_str!("vectors/other.json"));
    assert!(same > refused / 2);
}

#[test]
fn source_keys() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("vectors/source-local.json")).expect("vectors");
    assert!(!cases.is_empty());
    for case in cases {
        let Some(preimage) = case.preimage else { continue };
        let key = preimage.strip_prefix("buildkit.source.v0:").expect("a source");
        let map = source_key(key);
        assert_eq!(map.text, preimage);
        assert_eq!(Some(map.digest.to_string()), case.digest, "{}", case.name);
    }
}

#[test]
fn damaged_ops_are_errors() {
    let options =
        LoadOptions { default_platform: &pb::Platform::new("linux", "amd64"), caps: None, depth: 0 };
    for def in [vec![], vec![Bytes::from_static(b"\xff")], vec![Bytes::new()]] {
        let definition = pb::Definition { def, ..pb::Definition::default() };
        assert!(Loaded::new(definition, &options).is_err());
    }
}
