//! Ops at work: a real solver, cache and snapshots, with processes that a closure stands for. Needs
//! root: snapshots have owners.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_cache::{CacheManager, CacheOptions, RefId};
use buildkit_cache_contenthash::ContentHasher;
use buildkit_cache_metadata::MemoryStore;
use buildkit_errdefs::Classify as _;
use buildkit_executor::{ContainerMount, Executor, Exit, ProcessSpec, RunRequest};
use buildkit_frontend::BridgeError;
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_solver::{Job, JobId, MemoryKeyStore, OpContext, ResultId, ResultStore, Solver, SolverOptions};
use buildkit_solver_errdefs::{ParsedDetail, Subject, parse};
use buildkit_solver_llbsolver_mounts::MountManager;
use buildkit_solver_llbsolver_ops::{
    Error, JobContext, JobImports, LlbDomain, LoadOptions, Loaded, MAX_DEPTH, NestedBuilds, OpServices, Tree,
};
use buildkit_solver_pb as pb;
use buildkit_source::SourceRegistry;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::Bus;
use pb::op::Op;
use pb::{RawOp, file_action::Action};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

/// Runs `write PATH TEXT`, `cat PATH...` (into `/out`) and `fail CODE` on the files of its mounts.
#[derive(Default)]
struct Fake {
    runs: AtomicUsize,
}

impl Fake {
    fn perform(request: &RunRequest) -> std::io::Result<i32> {
        let inside = |path: &str| -> PathBuf {
            let mount = request.mounts.iter().find_map(|mount| {
                let rest = path.strip_prefix(&mount.dest)?;
                match &mount.source {
                    ContainerMount::Snapshot { mount, selector } => {
                        // Without a slash behind a file.
                        let parts = [selector.trim_start_matches('/'), rest.trim_start_matches('/')];
                        let parts = parts.iter().filter(|part| !part.is_empty());
                        Some(parts.fold(mount.source.clone(), |path, part| path.join(part)))
                    }
                    _ => None,
                }
            });
            mount.unwrap_or_else(|| request.root.source.join(path.trim_start_matches('/')))
        };
        let args: Vec<&str> = request.process.meta.args.iter().map(String::as_str).collect();
        match &args[..] {
            ["write", path, text] => fs::write(inside(path), text)?,
            ["cat", paths @ ..] => {
                let parts: std::io::Result<Vec<String>> =
                    paths.iter().map(|path| fs::read_to_string(inside(path))).collect();
                fs::write(inside("/out"), parts?.concat())?;
            }
            ["fail", code] => {
                fs::write(inside("/trace"), "was here")?;
                return Ok(code.parse().expect("a code"));
            }
            other => panic!("unknown process {other:?}"),
        }
        Ok(0)
    }
}

#[async_trait]
impl Executor for Fake {
    async fn run(&self, request: RunRequest) -> Result<Exit, buildkit_executor::Error> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let code = Self::perform(&request).unwrap_or_else(|error| panic!("{error}"));
        Ok(Exit { code, signal: None, oom_killed: false })
    }

    async fn exec(
        &self,
        id: &str,
        _process: ProcessSpec,
        _cancel: CancellationToken,
    ) -> Result<Exit, buildkit_executor::Error> {
        Err(buildkit_executor::Error::NotRunning(id.to_owned()))
    }
}

struct Results(CacheManager);

#[async_trait]
impl ResultStore<LlbDomain> for Results {
    async fn save(&self, output: &Tree, _created_at: SystemTime) -> Result<ResultId, Error> {
        Ok(ResultId(output.as_ref().map_or("", |tree| tree.id().as_str()).to_owned()))
    }

    async fn load(&self, _cx: &OpContext<LlbDomain>, id: &ResultId) -> Result<Tree, Error> {
        if id.0.is_empty() {
            return Ok(None);
        }
        let found = self.0.get(&RefId::new(&id.0)).await;
        found.map(Some).map_err(|error| {
            Error::Failed(BridgeError::from(RemoteError::new(error.kind(), error.to_string())))
        })
    }

    fn exists(&self, id: &ResultId) -> bool {
        id.0.is_empty() || self.0.exists(&RefId::new(&id.0))
    }
}

#[derive(Default)]
struct Nested(OnceLock<Weak<Job<LlbDomain>>>);

#[async_trait]
impl NestedBuilds for Nested {
    async fn solve(&self, definition: pb::Definition, depth: u32) -> Result<Tree, BridgeError> {
        let job = self.0.get().and_then(Weak::upgrade).expect("the job is alive");
        let loaded = load(definition, depth)
            .map_err(|error| BridgeError::from(RemoteError::new(error.kind(), error.to_string())))?;
        match job.build(&loaded.graph(), loaded.root.clone()).await {
            Ok(result) => Ok(result.output),
            Err(buildkit_solver::Error::Op(Error::Failed(failed))) => Err(failed),
            Err(other) => Err(RemoteError::new(other.kind(), other.to_string()).into()),
        }
    }
}

fn load(definition: pb::Definition, depth: u32) -> Result<Loaded, Error> {
    let platform = pb::Platform::new("linux", "amd64");
    Loaded::new(definition, &LoadOptions { default_platform: &platform, caps: None, depth })
}

struct Fixture {
    _directory: tempfile::TempDir,
    executor: Arc<Fake>,
    solver: Solver<LlbDomain>,
    jobs: AtomicUsize,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let snapshots = directory.path().join("snapshots");
        let cache = CacheManager::open(CacheOptions {
            snapshotter: Arc::new(buildkit_snapshot_native::open(snapshots).expect("snapshots")),
            metadata: Arc::new(MemoryStore::new()),
            content: Arc::new(buildkit_util_contentutil::MemoryStore::default()),
            mount_root: directory.path().join("mounts"),
            root: directory.path().to_owned(),
            clock: SystemTime::now,
        })
        .await
        .expect("cache");
        let sessions = SessionManager::new();
        let special = directory.path().join("special");
        let mounts =
            MountManager::open(cache.clone(), sessions.clone(), special).await.expect("mounts (needs root)");
        let executor = Arc::new(Fake::default());
        let services = OpServices {
            cache: cache.clone(),
            checksums: ContentHasher::default(),
            executor: executor.clone(),
            sources: SourceRegistry::new(),
            sessions,
            mounts,
            parallelism: None,
        };
        let solver = Solver::new(
            LlbDomain::new(Arc::new(services)),
            Arc::new(MemoryKeyStore::new()),
            Arc::new(Results(cache)),
            SolverOptions::default(),
        );
        Self { _directory: directory, executor, solver, jobs: AtomicUsize::new(0) }
    }

    fn runs(&self) -> usize {
        self.executor.runs.load(Ordering::SeqCst)
    }

    /// Builds output `index` of the last of some ops in a job of its own.
    async fn build_output(&self, ops: &[&RawOp], index: i64) -> Result<Tree, BridgeError> {
        let last = pb::Op { inputs: vec![input(ops[ops.len() - 1], index)], ..pb::Op::default() };
        let def = ops.iter().map(|op| op.encoded().clone()).chain([RawOp::new(last).encoded().clone()]);
        let definition = pb::Definition { def: def.collect(), ..pb::Definition::default() };
        let loaded = load(definition, 0).expect("loads");
        let nested = Arc::new(Nested::default());
        let context = JobContext {
            sessions: SessionGroup::default(),
            nested: Some(nested.clone()),
            layers: None,
            imports: JobImports::default(),
        };
        let id = JobId(self.jobs.fetch_add(1, Ordering::SeqCst).to_string());
        let job = self.solver.new_job(id, Arc::new(context), Bus::new()).expect("a new job");
        let job = Arc::new(job);
        nested.0.set(Arc::downgrade(&job)).expect("set once");
        match job.build(&loaded.graph(), loaded.root.clone()).await {
            Ok(result) => Ok(result.output),
            Err(buildkit_solver::Error::Op(Error::Failed(failed))) => Err(failed),
            Err(other) => panic!("{other}"),
        }
    }

    async fn build(&self, ops: &[&RawOp]) -> Result<Tree, BridgeError> {
        self.build_output(ops, 0).await
    }
}

async fn read(tree: &Tree, path: &str) -> Option<String> {
    let mount = tree.as_ref()?.mount_local().await.expect("mounts");
    fs::read_to_string(mount.path().join(path)).ok()
}

fn input(op: &RawOp, index: i64) -> pb::Input {
    pb::Input { digest: op.digest().to_string(), index }
}

fn op(inputs: Vec<pb::Input>, op: Op) -> RawOp {
    RawOp::new(pb::Op { inputs, op: Some(op), ..pb::Op::default() })
}

fn action(input: i64, secondary_input: i64, output: i64, action: Action) -> pb::FileAction {
    pb::FileAction { input, secondary_input, output, action: Some(action) }
}

fn mkfile(path: &str, data: impl Into<bytes::Bytes>) -> Action {
    let path = path.to_owned();
    Action::Mkfile(pb::FileActionMkFile { path, mode: 0o644, data: data.into(), timestamp: 0, owner: None })
}

fn mkdir(path: &str) -> Action {
    let path = path.to_owned();
    Action::Mkdir(pb::FileActionMkDir { path, mode: 0o755, timestamp: 0, ..Default::default() })
}

fn copy(src: &str, dest: &str) -> Action {
    Action::Copy(pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: 0,
        create_dest_path: true,
        ..Default::default()
    })
}

fn file(inputs: Vec<pb::Input>, actions: Vec<pb::FileAction>) -> RawOp {
    op(inputs, Op::File(pb::FileOp { actions }))
}

/// Files from nothing.
fn files(files: &[(&str, &str)]) -> RawOp {
    let last = files.len() - 1;
    let actions = files.iter().enumerate().map(|(at, (path, data))| {
        let output = if at == last { 0 } else { -1 };
        action(at as i64 - 1, -1, output, mkfile(path, data.to_string()))
    });
    file(vec![], actions.collect())
}

fn exec(base: &RawOp, args: &[&str], mounts: Vec<(&RawOp, pb::Mount)>) -> RawOp {
    let root = pb::Mount { dest: "/".to_owned(), ..pb::Mount::default() };
    let mut inputs = vec![input(base, 0)];
    let mut all = vec![root];
    for (from, mount) in mounts {
        inputs.push(input(from, 0));
        all.push(pb::Mount { input: inputs.len() as i64 - 1, output: -1, ..mount });
    }
    let meta = pb::Meta {
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        cwd: "/".to_owned(),
        ..pb::Meta::default()
    };
    op(inputs, Op::Exec(pb::ExecOp { meta: Some(meta), mounts: all, ..pb::ExecOp::default() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn file_actions_make_trees() {
    let fixture = Fixture::new().await;
    // 0: mkdir, its tree is a result; 1 and 2 go on from it; 3 brings both together.
    let op = file(
        vec![],
        vec![
            action(-1, -1, 1, mkdir("/d")),
            action(0, -1, -1, mkfile("/d/a", "a")),
            action(0, -1, -1, mkfile("/d/b", "b")),
            action(1, 2, 0, copy("/d/b", "/d/copied")),
        ],
    );
    let tree = fixture.build(&[&op]).await.expect("builds");
    assert_eq!(read(&tree, "d/a").await.as_deref(), Some("a"));
    assert_eq!(read(&tree, "d/copied").await.as_deref(), Some("b"));
    assert_eq!(read(&tree, "d/b").await, None);
    let tree = fixture.build_output(&[&op], 1).await.expect("builds");
    assert_eq!(read(&tree, "d/a").await, None);
    let mount = tree.expect("a tree").mount_local().await.expect("mounts");
    assert!(mount.path().join("d").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_share_files_and_are_still_their_own() {
    let fixture = Fixture::new().await;
    let source = files(&[("/a", "one"), ("/b", "two")]);
    let all = |mut action: pb::FileActionCopy| {
        action.dir_copy_contents = true;
        Action::Copy(action)
    };
    let Action::Copy(whole) = copy("/", "/") else { panic!("not a copy") };
    let ino = async |tree: &Tree, path: &str| {
        let mount = tree.as_ref().expect("a tree").mount_local().await.expect("mounts");
        fs::metadata(mount.path().join(path)).expect(path).ino()
    };
    let original = fixture.build(&[&source]).await.expect("builds");
    let copied = file(vec![input(&source, 0)], vec![action(-1, 0, 0, all(whole.clone()))]);
    let copied_tree = fixture.build(&[&source, &copied]).await.expect("builds");
    assert_eq!(ino(&original, "a").await, ino(&copied_tree, "a").await);
    // Written over in the same op: the source must not see it.
    let over = file(
        vec![input(&source, 0)],
        vec![action(-1, 0, -1, all(whole)), action(1, -1, 0, mkfile("/a", "three"))],
    );
    let over_tree = fixture.build(&[&source, &over]).await.expect("builds");
    assert_eq!(read(&over_tree, "a").await.as_deref(), Some("three"));
    // And written over in an op on top.
    let top = file(vec![input(&copied, 0)], vec![action(0, -1, 0, mkfile("/b", "four"))]);
    let top_tree = fixture.build(&[&source, &copied, &top]).await.expect("builds");
    assert_eq!(read(&top_tree, "b").await.as_deref(), Some("four"));
    for tree in [&original, &copied_tree] {
        assert_eq!(read(tree, "a").await.as_deref(), Some("one"));
        assert_eq!(read(tree, "b").await.as_deref(), Some("two"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_is_not_built_again() {
    let fixture = Fixture::new().await;
    let step = |junk: &str, wanted: &str| {
        let base = files(&[("/f", wanted), ("/junk", junk)]);
        let copied = file(vec![input(&base, 0)], vec![action(-1, 0, 0, copy("/f", "/f"))]);
        let run = exec(&copied, &["cat", "/f"], vec![]);
        [base, copied, run]
    };
    let build = async |junk, wanted| {
        let [base, copied, run] = step(junk, wanted);
        let tree = fixture.build(&[&base, &copied, &run]).await.expect("builds");
        assert_eq!(read(&tree, "out").await.as_deref(), Some(wanted));
    };
    build("1", "x").await;
    build("1", "x").await;
    build("2", "x").await;
    assert_eq!(fixture.runs(), 1);
    build("2", "y").await;
    assert_eq!(fixture.runs(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_shown_and_matched_by_what_they_show() {
    let fixture = Fixture::new().await;
    let base = files(&[("/x", "")]);
    let build = async |junk: &str| {
        let other = files(&[("/part", "p"), ("/junk", junk)]);
        let mount = pb::Mount {
            dest: "/m".to_owned(),
            selector: "/part".to_owned(),
            readonly: true,
            ..pb::Mount::default()
        };
        let run = exec(&base, &["cat", "/m"], vec![(&other, mount)]);
        let tree = fixture.build(&[&base, &other, &run]).await.expect("builds");
        assert_eq!(read(&tree, "out").await.as_deref(), Some("p"));
    };
    build("1").await;
    build("2").await;
    assert_eq!(fixture.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_process_leaves_its_state() {
    let fixture = Fixture::new().await;
    let base = files(&[("/x", "x")]);
    let run = exec(&base, &["fail", "7"], vec![]);
    let failed = fixture.build(&[&base, &run]).await.expect_err("fails");
    assert_eq!(failed.error.message, "process \"fail 7\" did not complete successfully: exit code: 7");
    let details: Vec<_> = failed.error.details.iter().filter_map(parse).collect();
    assert!(details.contains(&ParsedDetail::Exit(7)), "{details:?}");
    assert!(details.contains(&ParsedDetail::Vertex(run.digest().to_string())), "{details:?}");
    let state = failed.state.expect("has a state");
    assert_eq!((state.inputs.len(), state.mounts.len()), (1, 1));
    let op: serde_json::Value = serde_json::from_str(&state.op_json.clone().expect("the op")).expect("JSON");
    assert_eq!(op["exec"]["meta"]["args"][0], "fail");
    assert_eq!(op["inputs"][0]["digest"], base.digest().as_str());
    assert_eq!(read(&state.mounts[0], "trace").await.as_deref(), Some("was here"));
    assert_eq!(read(&state.inputs[0], "trace").await, None);
    // It is not cached.
    fixture.build(&[&base, &run]).await.expect_err("fails again");
    assert_eq!(fixture.runs(), 2);

    let mut wire = run.into_op();
    if let Some(Op::Exec(exec)) = &mut wire.op
        && let Some(meta) = &mut exec.meta
    {
        meta.valid_exit_codes = vec![0, 7];
    }
    fixture.build(&[&base, &RawOp::new(wire)]).await.expect("7 is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_file_actions_say_what_and_where() {
    let fixture = Fixture::new().await;
    let base = files(&[("/x", "x")]);
    let missing = file(vec![input(&base, 0)], vec![action(-1, 0, 0, copy("/nope", "/"))]);
    let failed = fixture.build(&[&base, &missing]).await.expect_err("fails");
    let text = &failed.error.message;
    assert!(text.contains("failed to calculate checksum of ref "), "{text}");
    assert!(text.ends_with("\"/nope\": not found"), "{text}");
    assert_eq!(failed.state.expect("has a state").subject, Some(Subject::Cache(0)));

    let rm = Action::Rm(pb::FileActionRm { path: "/gone".to_owned(), ..Default::default() });
    let op = file(vec![input(&base, 0)], vec![action(0, -1, -1, mkfile("/made", "m")), action(1, -1, 0, rm)]);
    let failed = fixture.build(&[&base, &op]).await.expect_err("fails");
    assert_eq!(failed.error.message, "stat /gone: no such file or directory");
    let state = failed.state.expect("has a state");
    assert_eq!(state.subject, Some(Subject::File(1)));
    assert_eq!(read(&state.mounts[1], "made").await.as_deref(), Some("m"));
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_are_merged_compared_and_handed_on() {
    let fixture = Fixture::new().await;
    let (a, b) = (files(&[("/a", "a"), ("/both", "a")]), files(&[("/b", "b"), ("/both", "b")]));
    let inputs = || vec![input(&a, 0), input(&b, 0)];
    let both = [0, 1].map(|input| pb::MergeInput { input }).to_vec();
    let merged = op(inputs(), Op::Merge(pb::MergeOp { inputs: both }));
    let tree = fixture.build(&[&a, &b, &merged]).await.expect("builds");
    assert_eq!(read(&tree, "a").await.as_deref(), Some("a"));
    assert_eq!(read(&tree, "both").await.as_deref(), Some("b"));

    let on_a = file(vec![input(&a, 0)], vec![action(0, -1, 0, mkfile("/new", "n"))]);
    let diff = pb::DiffOp {
        lower: Some(pb::LowerDiffInput { input: 0 }),
        upper: Some(pb::UpperDiffInput { input: 1 }),
    };
    let difference = op(vec![input(&a, 0), input(&on_a, 0)], Op::Diff(diff));
    let tree = fixture.build(&[&a, &on_a, &difference]).await.expect("builds");
    assert_eq!(read(&tree, "new").await.as_deref(), Some("n"));
    assert_eq!(read(&tree, "a").await, None);
    let nothing = op(vec![input(&a, 0), input(&a, 0)], Op::Diff(diff));
    assert!(fixture.build(&[&a, &nothing]).await.expect("builds").is_none());
    // What nothing is merged with is itself; a copy of an empty tree is empty.
    let both = [0, 1].map(|input| pb::MergeInput { input }).to_vec();
    let merged = op(vec![input(&nothing, 0), input(&a, 0)], Op::Merge(pb::MergeOp { inputs: both }));
    let tree = fixture.build(&[&a, &nothing, &merged]).await.expect("builds");
    assert_eq!(read(&tree, "a").await.as_deref(), Some("a"));
    let copied = file(vec![input(&nothing, 0)], vec![action(-1, 0, 0, copy("/", "/dir"))]);
    fixture.build(&[&a, &nothing, &copied]).await.expect("builds");

    let swapped = pb::PassthroughOp { id: "p".to_owned(), outputs: vec![1, 0] };
    let passed = op(inputs(), Op::Passthrough(swapped));
    let tree = fixture.build_output(&[&a, &b, &passed], 1).await.expect("builds");
    assert_eq!(read(&tree, "a").await.as_deref(), Some("a"));
}

/// An op that builds the definition of `inner`, and the file op that holds it.
fn nested(inner: &[&RawOp]) -> [RawOp; 2] {
    let last = RawOp::new(pb::Op { inputs: vec![input(inner[inner.len() - 1], 0)], ..pb::Op::default() });
    let def = inner.iter().map(|op| op.encoded().clone()).chain([last.encoded().clone()]).collect();
    let bytes = pb::Definition { def, ..pb::Definition::default() }.encode_to_vec();
    let holder = file(vec![], vec![action(-1, -1, 0, mkfile("/llb", bytes))]);
    let definition = [(pb::LLB_DEFINITION_INPUT.to_owned(), pb::BuildInput { input: 0 })];
    let build = pb::BuildOp {
        builder: pb::LLB_BUILDER,
        inputs: pb::map::from_map(definition),
        attrs: pb::map::from_map([("llbbuild.filename".to_owned(), "/llb".to_owned())]),
        ..pb::BuildOp::default()
    };
    let build = op(vec![input(&holder, 0)], Op::Build(build));
    [holder, build]
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_found_in_results() {
    let fixture = Fixture::new().await;
    let inner = files(&[("/f", "from within")]);
    let [holder, build] = nested(&[&inner]);
    let tree = fixture.build(&[&holder, &build]).await.expect("builds");
    assert_eq!(read(&tree, "f").await.as_deref(), Some("from within"));

    let failing = exec(&inner, &["fail", "3"], vec![]);
    let [holder, build] = nested(&[&inner, &failing]);
    let failed = fixture.build(&[&holder, &build]).await.expect_err("fails");
    // The step that failed is named, not the one that it was found in.
    let vertices: Vec<_> = failed
        .error
        .details
        .iter()
        .filter_map(|detail| match parse(detail) {
            Some(ParsedDetail::Vertex(digest)) => Some(digest),
            _ => None,
        })
        .collect();
    assert_eq!(vertices, [failing.digest().to_string()]);

    let garbage = file(vec![], vec![action(-1, -1, 0, mkfile("/llb", &b"\xff\xff"[..]))]);
    let mut wire = build.into_op();
    wire.inputs = vec![input(&garbage, 0)];
    let failed = fixture.build(&[&garbage, &RawOp::new(wire)]).await.expect_err("fails");
    let text = &failed.error.message;
    assert!(text.starts_with("failed to parse llb definition"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_07_definitions_do_not_nest_without_end() {
    let fixture = Fixture::new().await;
    let inner = files(&[("/f", "")]);
    let mut ops = nested(&[&inner]);
    for _ in 0..MAX_DEPTH {
        ops = nested(&[&ops[0], &ops[1]]);
    }
    let failed = fixture.build(&[&ops[0], &ops[1]]).await.expect_err("too deep");
    assert!(failed.error.message.contains("nested more than"), "{}", failed.error.message);
}
