//! Definitions that are refused, definitions that are not, and what becomes of those.

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_solver_llbsolver_ops::{DecodedDefinition, FileInput, LoadOptions, Loaded, OpSpec};
use buildkit_solver_pb as pb;
use pb::op::Op;
use pb::{RawOp, file_action::Action};
use proptest::prelude::*;

const BAD: [i64; 5] = [i32::MIN as i64, -2, 100, i32::MAX as i64, i64::MAX];

fn source(name: &str) -> RawOp {
    let op = pb::SourceOp { identifier: format!("local://{name}"), attrs: vec![] };
    RawOp::new(pb::Op { op: Some(Op::Source(op)), ..pb::Op::default() })
}

fn input(op: &RawOp, index: i64) -> pb::Input {
    pb::Input { digest: op.digest().to_string(), index }
}

fn op(inputs: &[&RawOp], op: Op) -> RawOp {
    let inputs = inputs.iter().map(|op| input(op, 0)).collect();
    RawOp::new(pb::Op { inputs, op: Some(op), ..pb::Op::default() })
}

fn last(op: &RawOp) -> RawOp {
    RawOp::new(pb::Op { inputs: vec![input(op, 0)], ..pb::Op::default() })
}

fn definition(ops: &[&RawOp]) -> pb::Definition {
    let def = ops.iter().map(|op| op.encoded().clone()).collect();
    pb::Definition { def, ..pb::Definition::default() }
}

fn load(definition: pb::Definition) -> Result<Loaded, String> {
    let platform = pb::Platform::new("linux", "amd64");
    let options = LoadOptions { default_platform: &platform, caps: None, depth: 0 };
    Loaded::new(definition, &options).map_err(|error| {
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
        error.to_string()
    })
}

/// Loads one op with some inputs.
fn load_op(inputs: usize, payload: Op) -> Result<OpSpec, String> {
    load_edges(&(0..inputs).collect::<Vec<_>>(), payload)
}

/// Loads one op whose inputs are these sources by number.
fn load_edges(edges: &[usize], payload: Op) -> Result<OpSpec, String> {
    let count = edges.iter().max().map_or(0, |most| most + 1);
    let sources: Vec<RawOp> = (0..count).map(|at| source(&at.to_string())).collect();
    let tested = op(&edges.iter().map(|&at| &sources[at]).collect::<Vec<_>>(), payload);
    let last = last(&tested);
    let all: Vec<&RawOp> = sources.iter().chain([&tested, &last]).collect();
    let loaded = load(definition(&all))?;
    let vertex = loaded.vertices.last().expect("not empty");
    Ok(vertex.payload.op.clone())
}

fn exec(mounts: Vec<pb::Mount>) -> Op {
    let meta = pb::Meta { args: vec!["x".to_owned()], cwd: "/".to_owned(), ..pb::Meta::default() };
    Op::Exec(pb::ExecOp { meta: Some(meta), mounts, ..pb::ExecOp::default() })
}

fn mount(dest: &str, input: i64, output: i64) -> pb::Mount {
    pb::Mount { dest: dest.to_owned(), input, output, ..pb::Mount::default() }
}

fn mkdir(input: i64, secondary_input: i64, output: i64) -> pb::FileAction {
    let action = Some(Action::Mkdir(pb::FileActionMkDir { path: "/d".to_owned(), ..Default::default() }));
    pb::FileAction { input, secondary_input, output, action }
}

fn owned_by(input: i64) -> pb::FileAction {
    let user = pb::UserOpt {
        user: Some(pb::user_opt::User::ByName(pb::NamedUserOpt { name: "u".to_owned(), input })),
    };
    let owner = Some(pb::ChownOpt { user: Some(user), group: None });
    let action = pb::FileActionMkFile { path: "/f".to_owned(), owner, ..Default::default() };
    pb::FileAction { input: 0, secondary_input: -1, output: 0, action: Some(Action::Mkfile(action)) }
}

fn file(actions: Vec<pb::FileAction>) -> Op {
    Op::File(pb::FileOp { actions })
}

fn merge(inputs: &[i64]) -> Op {
    Op::Merge(pb::MergeOp { inputs: inputs.iter().map(|&input| pb::MergeInput { input }).collect() })
}

fn diff(lower: i64, upper: i64) -> Op {
    Op::Diff(pb::DiffOp {
        lower: Some(pb::LowerDiffInput { input: lower }),
        upper: Some(pb::UpperDiffInput { input: upper }),
    })
}

fn build(input: i64) -> Op {
    let inputs = pb::map::from_map([(pb::LLB_DEFINITION_INPUT.to_owned(), pb::BuildInput { input })]);
    Op::Build(pb::BuildOp { builder: pb::LLB_BUILDER, inputs, ..pb::BuildOp::default() })
}

fn passthrough(outputs: &[i64]) -> Op {
    Op::Passthrough(pb::PassthroughOp { id: "p".to_owned(), outputs: outputs.to_vec() })
}

#[test]
fn a1_15_every_index_outside_is_refused() {
    for bad in BAD {
        let cases = [
            (1, exec(vec![mount("/", bad, 0)])),
            (1, exec(vec![mount("/", 0, bad)])),
            (1, exec(vec![mount("/", 0, 0), mount("/m", bad, 1)])),
            (1, file(vec![mkdir(bad, -1, 0)])),
            (1, file(vec![mkdir(0, bad, 0)])),
            (1, file(vec![mkdir(0, -1, bad)])),
            (1, file(vec![owned_by(bad)])),
            (1, build(bad)),
            (1, merge(&[bad])),
            (2, merge(&[0, bad])),
            (1, diff(bad, 0)),
            (1, diff(0, bad)),
            (1, passthrough(&[bad])),
        ];
        for (inputs, payload) in cases {
            let result = load_op(inputs, payload.clone());
            assert!(result.is_err(), "{bad}: {payload:?}");
        }
        // The index of the output that an input names.
        let from = source("s");
        let mut wire = passthrough_of(&from).into_op();
        wire.inputs[0].index = bad;
        let tested = RawOp::new(wire);
        assert!(load(definition(&[&from, &tested, &last(&tested)])).is_err(), "{bad}");
        let mut wire = last(&from).into_op();
        wire.inputs[0].index = bad;
        assert!(load(definition(&[&from, &RawOp::new(wire)])).is_err(), "{bad}");
    }
}

fn passthrough_of(from: &RawOp) -> RawOp {
    op(&[from], passthrough(&[0]))
}

#[test]
fn a1_22_a1_23_payloads_and_edge_lists_must_agree() {
    let refused = [
        (0, merge(&[]), "invalid merge op with no inputs"),
        (3, merge(&[0, 1]), "it lists 2 inputs and has 3"),
        (2, merge(&[0, 1, 2]), "it lists 3 inputs and has 2"),
        (2, merge(&[1, 0]), "invalid merge input index 1 at 0"),
        (2, merge(&[0, 0]), "invalid merge input index 0 at 1"),
        (4, merge(&[0, 1, 2, 4]), "invalid merge input index 4 at 3"),
        (2, diff(1, 0), "invalid diff input index 1"),
        (1, diff(0, 0), "invalid diff input index 0"),
        (2, diff(0, -1), "it uses 1 inputs and has 2"),
        (0, diff(0, -1), "invalid diff input index 0"),
        (1, diff(-1, -1), "it uses 0 inputs and has 1"),
        (2, build(0), "input 1 of 2 is not used"),
        (2, exec(vec![mount("/", 0, 0)]), "input 1 of 2 is not used"),
        (1, exec(vec![mount("/", 0, 1)]), "invalid output 1 of mount /, 1 provided"),
        (1, exec(vec![mount("/", 0, 1), mount("/m", 0, -1)]), "invalid output 1 of mount /, 1 provided"),
        (1, exec(vec![mount("/", 0, 0), mount("/m", 0, 2)]), "invalid output 2 of mount /m, 2 provided"),
        (1, exec(vec![mount("/m", 0, 0)]), "invalid exec op with no rootfs"),
        (1, exec(vec![mount("/", 0, 0), mount("/", 0, 1)]), "2 mounts at /"),
        (0, exec(vec![mount("/", -1, -1)]), "mount / has no input"),
        (0, exec(vec![]), "invalid exec op with no mounts"),
        (0, file(vec![]), "invalid file op with no actions"),
        (0, file(vec![mkdir(-1, -1, -1)]), "no outputs specified"),
        (0, file(vec![mkdir(-1, -1, 0), mkdir(-1, -1, 0)]), "duplicate output 0"),
        (0, file(vec![mkdir(-1, -1, 1), mkdir(-1, -1, -1)]), "missing output index 0"),
        (0, file(vec![mkdir(0, -1, 0)]), "loop from index 0"),
        (0, file(vec![mkdir(1, -1, 0), mkdir(0, -1, -1)]), "loop from index 0"),
        (1, file(vec![mkdir(-1, -1, 0)]), "input 0 of 1 is not used"),
        (
            0,
            file(vec![pb::FileAction { action: None, ..mkdir(-1, -1, 0) }]),
            "invalid file action 0 with no action",
        ),
        (1, passthrough(&[]), "no outputs"),
        (0, passthrough(&[0]), "invalid passthrough output input index 0"),
    ];
    for (inputs, payload, reason) in refused {
        let error = load_op(inputs, payload.clone()).expect_err(&format!("{payload:?}"));
        assert!(error.contains(reason), "{error} should say {reason}");
    }
    let fine = [
        (2, merge(&[0, 1])),
        (2, diff(0, 1)),
        (1, diff(0, -1)),
        (1, diff(-1, 0)),
        (0, diff(-1, -1)),
        (1, build(0)),
        (2, exec(vec![mount("/", 0, 0), mount("/m", 1, -1)])),
        (0, exec(vec![mount("/", -1, 0)])),
        (1, file(vec![owned_by(0)])),
        (2, passthrough(&[1, 1])),
    ];
    for (inputs, payload) in fine {
        load_op(inputs, payload.clone()).unwrap_or_else(|error| panic!("{payload:?}: {error}"));
    }
}

#[test]
fn a1_05_a1_15_missing_parts_are_refused() {
    let cases = [
        Op::Exec(pb::ExecOp::default()),
        Op::Exec(pb::ExecOp { meta: Some(pb::Meta::default()), ..Default::default() }),
        Op::Source(pb::SourceOp { identifier: "no scheme".to_owned(), attrs: vec![] }),
        Op::Diff(pb::DiffOp { lower: None, upper: Some(pb::UpperDiffInput { input: -1 }) }),
        Op::Diff(pb::DiffOp { lower: Some(pb::LowerDiffInput { input: -1 }), upper: None }),
        Op::Build(pb::BuildOp::default()),
        Op::Build(pb::BuildOp { builder: -1, ..Default::default() }),
        Op::Passthrough(pb::PassthroughOp::default()),
    ];
    for payload in cases {
        assert!(load_op(0, payload.clone()).is_err(), "{payload:?}");
    }
    for (field, mount) in [
        ("type", pb::Mount { mount_type: 9, ..mount("/m", -1, -1) }),
        ("content", pb::Mount { content_cache: 9, ..mount("/m", -1, -1) }),
        ("cache", pb::Mount { mount_type: pb::MountType::Cache.into(), ..mount("/m", -1, -1) }),
        ("secret", pb::Mount { mount_type: pb::MountType::Secret.into(), ..mount("/m", -1, -1) }),
        ("ssh", pb::Mount { mount_type: pb::MountType::Ssh.into(), ..mount("/m", -1, -1) }),
        ("NUL", mount("/m\0", -1, -1)),
        (
            "sharing",
            pb::Mount {
                mount_type: pb::MountType::Cache.into(),
                cache_opt: Some(pb::CacheOpt { id: String::new(), sharing: 7 }),
                ..mount("/m", -1, -1)
            },
        ),
    ] {
        let ok = self::mount("/", -1, 0);
        assert!(load_op(0, exec(vec![ok, mount])).is_err(), "{field}");
    }
}

#[test]
fn results_of_an_exec_are_in_the_order_of_its_mounts() {
    let outputs = |mounts: Vec<pb::Mount>| match load_op(1, exec(mounts)).expect("valid") {
        OpSpec::Exec(spec) => {
            let outputs: Vec<_> = spec.mounts.iter().map(|mount| mount.output).collect();
            assert_eq!(outputs.iter().flatten().count(), spec.outputs as usize);
            outputs
        }
        other => panic!("{other:?}"),
    };
    let root = || mount("/", 0, -1);
    // Other daemons do not look at the numbers; graphs with any of these build there.
    for (first, second) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
        let mounts = vec![root(), mount("/a", -1, first), mount("/b", -1, second)];
        assert_eq!(outputs(mounts), [None, Some(0), Some(1)], "{first} {second}");
    }
    let cache = |input| pb::Mount {
        mount_type: pb::MountType::Cache.into(),
        cache_opt: Some(pb::CacheOpt::default()),
        ..mount("/c", input, 0)
    };
    assert_eq!(outputs(vec![root(), cache(0), mount("/a", -1, 1)]), [None, Some(0), Some(1)]);
    // It hands on its input, and there is none.
    assert_eq!(outputs(vec![root(), cache(-1), mount("/a", -1, 1)]), [None, None, Some(0)]);
}

#[test]
fn a_process_starts_in_an_absolute_directory() {
    let at = |cwd: &str| {
        let Op::Exec(mut op) = exec(vec![mount("/", 0, 0)]) else { panic!("an exec op") };
        op.meta.get_or_insert_default().cwd = cwd.to_owned();
        load_op(1, Op::Exec(op))
    };
    for bad in ["", ".", "x", "./x", "..", "~", "\0/"] {
        let error = at(bad).expect_err(bad);
        assert!(error.contains("working directory") && error.contains("not absolute"), "{error}");
    }
    for good in ["/", "/x/../y", "//"] {
        at(good).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
}

#[test]
fn a_required_device_that_nobody_has_is_refused() {
    let with = |devices: &[(&str, bool)]| {
        let Op::Exec(mut op) = exec(vec![mount("/", 0, 0)]) else { panic!("an exec op") };
        op.cdi_devices = devices
            .iter()
            .map(|&(name, optional)| pb::CdiDevice { name: name.to_owned(), optional })
            .collect();
        load_op(1, Op::Exec(op))
    };
    let error = with(&[("vendor.com/fpga=0", true), ("vendor.com/gpu=all", false)]).expect_err("required");
    assert!(error.contains("required device \"vendor.com/gpu=all\" is not registered"), "{error}");
    assert!(error.contains("exec.meta.cdi"), "{error}");
    let without = with(&[]).expect("no device");
    let optional = with(&[("vendor.com/fpga=0", true), ("vendor.com/gpu=all", true)]);
    assert_eq!(optional.expect("both may be missing"), without, "and have the key of a step without");
}

#[test]
fn content_keys_follow_the_rules_of_mounts() {
    let on = pb::MountContentCache::On as i32;
    let off = pb::MountContentCache::Off as i32;
    let root = || mount("/", 0, 0);
    let with = |mount: pb::Mount| load_op(2, exec(vec![root(), mount]));
    let by_content = |mount: pb::Mount| match with(mount).expect("valid") {
        OpSpec::Exec(spec) => spec.mounts[1].by_content,
        other => panic!("{other:?}"),
    };
    let selecting = |output| pb::Mount { selector: "s".to_owned(), ..mount("/m", 1, output) };
    assert!(by_content(mount("/m", 1, 1)));
    assert!(by_content(selecting(-1)));
    assert!(!by_content(selecting(1)));
    assert!(by_content(pb::Mount { readonly: true, ..selecting(1) }));
    assert!(!by_content(pb::Mount { content_cache: off, ..mount("/m", 1, 1) }));
    assert!(with(pb::Mount { content_cache: on, ..selecting(1) }).is_err());
    let rooted = |mount: pb::Mount| match load_op(1, exec(vec![mount])).expect("valid") {
        OpSpec::Exec(spec) => spec.mounts[0].by_content,
        other => panic!("{other:?}"),
    };
    assert!(!rooted(root()));
    assert!(rooted(pb::Mount { content_cache: on, ..root() }));
}

#[test]
fn graphs_must_hang_together() {
    let (a, b) = (source("a"), source("b"));
    let merged = op(&[&a, &b], merge(&[0, 1]));
    let end = last(&merged);
    let error = |ops: &[&RawOp]| load(definition(ops)).expect_err("refused");
    assert_eq!(error(&[]), "invalid empty definition");
    assert_eq!(error(&[&a]), "invalid LLB with 1 vertexes");
    assert_eq!(error(&[&a, &b]), "invalid LLB with no inputs on last vertex");
    let missing = error(&[&a, &merged, &end]);
    assert_eq!(missing, format!("invalid missing input digest {}", b.digest()));
    // Order and repetition do not matter, but for the last.
    let loaded = load(definition(&[&merged, &b, &a, &b, &merged, &end])).expect("loads");
    assert_eq!(loaded.vertices.len(), 3);
    assert_eq!(loaded.root.vertex.0, merged.digest());
    let position = |op: &RawOp| loaded.vertices.iter().position(|v| v.id.0 == op.digest());
    assert!(position(&merged) > position(&a) && position(&merged) > position(&b));
    assert_eq!(loaded.vertices[2].name, "merge (local://a, local://b)");
    // What is not needed is not checked.
    let broken = op(&[], merge(&[7]));
    assert!(load(definition(&[&broken, &a, &last(&a)])).is_ok());
}

#[test]
fn digests_are_those_of_the_deterministic_encoding() {
    // An input with its default index written out: other bytes, same meaning.
    let a = source("a");
    let plain = passthrough_of(&a);
    let digest = a.digest();
    let mut bytes = vec![0x0a, digest.as_str().len() as u8 + 4, 0x0a, digest.as_str().len() as u8];
    bytes.extend_from_slice(digest.as_str().as_bytes());
    bytes.extend_from_slice(&[0x10, 0]);
    let skip = 2 + usize::from(plain.encoded()[1]);
    bytes.extend_from_slice(&plain.encoded()[skip..]);
    let sent = buildkit_util_cachedigest::Digest::sha256(&bytes);
    assert_ne!(sent, plain.digest());

    let end = RawOp::new(pb::Op {
        inputs: vec![pb::Input { digest: sent.to_string(), index: 0 }],
        ..pb::Op::default()
    });
    let metadata = pb::OpMetadata {
        ignore_cache: true,
        description: pb::map::from_map([("llb.customname".to_owned(), "named".to_owned())]),
        ..pb::OpMetadata::default()
    };
    let definition = pb::Definition {
        def: vec![a.encoded().clone(), bytes.into(), end.encoded().clone()],
        metadata: pb::map::from_map([(sent.to_string(), metadata)]),
        source: None,
    };
    let loaded = load(definition).expect("loads");
    assert_eq!(loaded.root.vertex.0, plain.digest());
    assert_eq!(loaded.sent[&sent].0, plain.digest());
    let vertex = loaded.vertices.last().expect("not empty");
    assert_eq!((vertex.name.as_str(), vertex.cache.ignore), ("named", true));
}

#[test]
fn a_changed_source_changes_all_above() {
    let a = source("a");
    let above = passthrough_of(&a);
    let mut decoded = DecodedDefinition::decode(definition(&[&a, &above, &last(&above)])).expect("decodes");
    let found: Vec<_> = decoded.sources().map(|(at, op, _)| (at, op.identifier.clone())).collect();
    assert_eq!(found, [(0, "local://a".to_owned())]);
    let other = pb::SourceOp { identifier: "local://other".to_owned(), attrs: vec![] };
    decoded.set_source(0, &other).expect("a source");
    assert!(decoded.set_source(1, &other).is_err() && decoded.set_source(9, &other).is_err());
    let platform = pb::Platform::new("linux", "amd64");
    let loaded =
        decoded.load(&LoadOptions { default_platform: &platform, caps: None, depth: 0 }).expect("loads");
    assert_eq!(loaded.vertices[0].id.0, source("other").digest());
    assert_eq!(loaded.root.vertex.0, passthrough_of(&source("other")).digest());
    assert_eq!(loaded.sent[&above.digest()], loaded.root.vertex);
}

#[test]
fn capabilities_are_checked() {
    let a = source("a");
    let set = |caps: &[&str]| {
        let metadata = pb::OpMetadata {
            caps: pb::map::from_map(caps.iter().map(|&cap| (cap.to_owned(), true))),
            ..pb::OpMetadata::default()
        };
        pb::Definition {
            metadata: pb::map::from_map([(a.digest().to_string(), metadata)]),
            ..definition(&[&a, &last(&a)])
        }
    };
    let list = pb::caps::list();
    let caps = list.cap_set(list.all());
    let platform = pb::Platform::new("linux", "amd64");
    let options = LoadOptions { default_platform: &platform, caps: Some(&caps), depth: 0 };
    assert!(Loaded::new(set(&["source.local"]), &options).is_ok());
    let error = Loaded::new(set(&["source.local", "no.such"]), &options).expect_err("refused");
    assert_eq!(error.to_string(), "unknown API capability no.such");
}

#[test]
fn a4_04_long_and_doubling_graphs_are_linear() {
    let mut ops = vec![source("s")];
    for _ in 0..20_000 {
        let below = &ops[ops.len() - 1];
        // Two edges to the vertex below: 2^n paths and, without a limit, as long a name.
        let next = op(&[below, below], merge(&[0, 1]));
        ops.push(next);
    }
    let end = last(&ops[ops.len() - 1]);
    let all: Vec<&RawOp> = ops.iter().chain([&end]).collect();
    let loaded = load(definition(&all)).expect("loads");
    assert_eq!(loaded.vertices.len(), 20_001);
    assert!(loaded.vertices.iter().all(|vertex| vertex.name.len() <= 1024));
}

fn any_index() -> impl Strategy<Value = i64> {
    prop_oneof![-2i64..6, Just(i64::MIN), Just(i64::MAX), Just(i64::from(i32::MAX))]
}

fn any_action() -> impl Strategy<Value = pb::FileAction> {
    (any_index(), any_index(), any_index(), any_index(), 0..4).prop_map(
        |(input, secondary_input, output, owner, kind)| {
            let action = match kind {
                0 => None,
                1 => owned_by(owner).action,
                2 => Some(Action::Copy(pb::FileActionCopy::default())),
                _ => mkdir(0, 0, 0).action,
            };
            pb::FileAction { input, secondary_input, output, action }
        },
    )
}

fn any_op() -> impl Strategy<Value = Op> {
    let indexes = || prop::collection::vec(any_index(), 0..5);
    prop_oneof![
        prop::collection::vec(any_action(), 0..5).prop_map(file),
        prop::collection::vec((any_index(), any_index(), -1..6), 0..4).prop_map(|mounts| {
            let dests = ["/", "/a", "/b", "/"];
            exec(
                mounts
                    .into_iter()
                    .zip(dests)
                    .map(|((input, output, mount_type), dest)| pb::Mount {
                        mount_type,
                        ..mount(dest, input, output)
                    })
                    .collect(),
            )
        }),
        indexes().prop_map(|indexes| merge(&indexes)),
        indexes().prop_map(|indexes| passthrough(&indexes)),
        (any_index(), any_index()).prop_map(|(lower, upper)| diff(lower, upper)),
        any_index().prop_map(build),
        "(local://)?[a-z/.]{0,4}"
            .prop_map(|identifier| { Op::Source(pb::SourceOp { identifier, attrs: vec![] }) }),
    ]
}

/// Each kind of op that uses exactly `n` edges, and whether it may have edges that are only waited for.
fn exact(n: usize) -> Vec<(Op, bool)> {
    let indexes: Vec<i64> = (0..).take(n).collect();
    let mounts = |first: i64| {
        let rest = indexes.iter().skip(1).map(|&at| mount(&format!("/{at}"), at, -1));
        [mount("/", first, 0)].into_iter().chain(rest).collect()
    };
    // One action: an index behind the inputs would be that of another action's tree.
    let actions = match n {
        0 => Some(mkdir(-1, -1, 0)),
        1 => Some(mkdir(0, -1, 0)),
        2 => Some(mkdir(0, 1, 0)),
        3 => Some(pb::FileAction { input: 0, secondary_input: 1, ..owned_by(2) }),
        _ => None,
    };
    let builds = indexes.iter().map(|&input| {
        let key = if input == 0 { pb::LLB_DEFINITION_INPUT.to_owned() } else { input.to_string() };
        (key, pb::BuildInput { input })
    });
    let mut all = vec![
        (exec(mounts(if n == 0 { -1 } else { 0 })), false),
        (passthrough(&indexes), true),
        (merge(&indexes), false),
        (
            Op::Build(pb::BuildOp {
                builder: pb::LLB_BUILDER,
                inputs: pb::map::from_map(builds),
                ..Default::default()
            }),
            false,
        ),
    ];
    all.extend(actions.map(|action| (file(vec![action]), false)));
    match n {
        0 => all.extend([
            (diff(-1, -1), false),
            (Op::Source(pb::SourceOp { identifier: "local://x".to_owned(), attrs: vec![] }), false),
        ]),
        1 => all.extend([(diff(0, -1), false), (diff(-1, 0), false)]),
        2 => all.push((diff(0, 1), false)),
        _ => {}
    }
    if n == 0 {
        // These need at least one.
        all.retain(|(op, _)| !matches!(op, Op::Merge(_) | Op::Build(_) | Op::Passthrough(_)));
    }
    all
}

#[test]
fn a1_23_edge_lists_that_do_not_fit_are_refused() {
    for n in 0..5 {
        for (payload, may_wait) in exact(n) {
            load_edges(&(0..n).collect::<Vec<_>>(), payload.clone())
                .unwrap_or_else(|error| panic!("{n} edges for {payload:?}: {error}"));
            // The same tree twice is no contradiction, nor is another order: they are other graphs.
            load_edges(&vec![0; n], payload.clone()).expect("one tree several times");
            load_edges(&(0..n).rev().collect::<Vec<_>>(), payload.clone()).expect("another order");
            for other in (0..8).filter(|&other| other < n || (other > n && !may_wait)) {
                // Longer by new trees, and by the first one again.
                for edges in [(0..other).collect::<Vec<_>>(), vec![0; other]] {
                    let result = load_edges(&edges, payload.clone());
                    assert!(result.is_err(), "{other} edges instead of {n} for {payload:?}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a1_15_a1_21_what_is_loaded_can_be_relied_on(inputs in 0usize..5, payload in any_op()) {
        let Ok(spec) = load_op(inputs, payload) else { return Ok(()) };
        match spec {
            OpSpec::File(spec) => {
                let mut done = vec![false; spec.actions.len()];
                prop_assert_eq!(spec.order.len(), done.len());
                for &at in &spec.order {
                    for slot in [spec.actions[at].input, spec.actions[at].secondary] {
                        match slot {
                            FileInput::Scratch => {}
                            FileInput::Input(input) => prop_assert!(input < inputs),
                            FileInput::Action(action) => prop_assert!(done[action]),
                        }
                    }
                    done[at] = true;
                }
                prop_assert!(spec.outputs.iter().all(|&at| done[at]));
            }
            OpSpec::Exec(spec) => {
                prop_assert_eq!(spec.mounts.len(), spec.op.mounts.len());
                let mut outputs = spec.mounts.iter().filter_map(|mount| mount.output);
                prop_assert!((0..spec.outputs).all(|at| outputs.next() == Some(at)));
                prop_assert!(outputs.next().is_none());
                prop_assert!(spec.mounts.iter().all(|m| m.input.is_none_or(|at| at < inputs)));
            }
            OpSpec::Passthrough(spec) => prop_assert!(spec.outputs.iter().all(|&at| at < inputs)),
            OpSpec::Build(spec) => prop_assert!(spec.definition < inputs),
            OpSpec::Diff(spec) => {
                prop_assert!([spec.lower, spec.upper].iter().flatten().all(|&at| at < inputs));
            }
            OpSpec::Merge(_) | OpSpec::Source(_) => {}
        }
    }
}
