//! Builds through the public API.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buildkit_solver::{
    CacheOptions, CachedResult, Edge, Error, Graph, Job, JobId, MemoryKeyStore, Solver, SolverOptions,
    VertexId,
};
use buildkit_solver_testutil::{Failing, FakeDomain, FakeGraph, FakeOp, FakeResults, digest, output};
use buildkit_util_progress::Bus;
use tokio::sync::{Notify, Semaphore};

struct Setup {
    solver: Solver<FakeDomain>,
    keys: Arc<MemoryKeyStore>,
    results: Arc<FakeResults>,
    jobs: AtomicU64,
}

impl Setup {
    fn new() -> Self {
        let results = Arc::new(FakeResults::default());
        let keys = Arc::new(MemoryKeyStore::new());
        let solver =
            Solver::new(FakeDomain::default(), keys.clone(), results.clone(), SolverOptions::default());
        Self { solver, keys, results, jobs: AtomicU64::new(0) }
    }

    fn job(&self) -> Job<FakeDomain> {
        let id = format!("job{}", self.jobs.fetch_add(1, Ordering::Relaxed));
        self.solver.new_job(JobId(id.clone()), Arc::new(id), Bus::new()).expect("id is new")
    }

    async fn build(&self, graph: &Graph<FakeDomain>, edge: &Edge) -> CachedResult<FakeDomain> {
        self.job().build(graph, edge.clone()).await.expect("builds")
    }

    /// Names of the vertices that a build in a job of its own runs.
    async fn runs(&self, graph: &Graph<FakeDomain>, edge: &Edge) -> String {
        self.solver.domain().take_log();
        self.build(graph, edge).await;
        self.solver.domain().take_runs().join(" ")
    }
}

fn op() -> FakeOp {
    FakeOp::default()
}

fn content(inputs: &[usize]) -> FakeOp {
    FakeOp { content: inputs.iter().copied().collect(), ..op() }
}

fn ignoring() -> CacheOptions {
    CacheOptions { ignore: true, export: None }
}

#[tokio::test]
async fn second_build_is_cached() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], op());
    let b = graph.add("b", &[&a], op());
    let c = graph.add("c", &[&a, &b], op());
    let graph = graph.graph();
    assert_eq!(setup.runs(&graph, &c).await, "a b c");
    assert_eq!(setup.runs(&graph, &c).await, "");
    assert_eq!(setup.results.loads(), 1, "only the wanted result is loaded");
    assert_eq!(setup.runs(&graph, &b).await, "");
}

#[tokio::test]
async fn ids_do_not_matter_for_the_cache() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], FakeOp { maps: vec!["x".into()], ..op() });
    let b = graph.add("b", &[&a], FakeOp { maps: vec!["y".into()], ..op() });
    let a2 = graph.add("a2", &[], FakeOp { maps: vec!["x".into()], ..op() });
    let b2 = graph.add("b2", &[&a2], FakeOp { maps: vec!["y".into()], ..op() });
    let graph = graph.graph();
    assert_eq!(setup.runs(&graph, &b).await, "a b");
    assert_eq!(setup.runs(&graph, &b2).await, "");
}

#[tokio::test]
async fn same_content_matches_and_the_next_time_by_definition() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let same = || FakeOp { same_content: Some("same".into()), ..op() };
    let a = graph.add("a", &[], same());
    let b = graph.add("b", &[], same());
    let of_a = graph.add("of a", &[&a], FakeOp { maps: vec!["copy".into()], ..content(&[0]) });
    let of_b = graph.add("of b", &[&b], FakeOp { maps: vec!["copy".into()], ..content(&[0]) });
    let graph = graph.graph();
    assert_eq!(setup.runs(&graph, &of_a).await, "a,of a".replace(',', " "));
    assert_eq!(setup.runs(&graph, &of_b).await, "b");
    setup.build(&graph, &of_b).await;
    let log = setup.solver.domain().take_log();
    assert!(!log.iter().any(|line| line.starts_with("digest")), "{log:?}");
}

#[tokio::test]
async fn maps_are_asked_until_one_has_a_record() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], FakeOp { maps: vec!["one".into(), "two".into()], ..op() });
    let b = graph.add("b", &[], FakeOp { maps: vec!["other".into(), "two".into()], ..op() });
    let graph = graph.graph();
    setup.build(&graph, &a).await;
    assert_eq!(setup.solver.domain().take_log(), ["map a 0", "map a 1", "exec a"]);
    setup.build(&graph, &a).await;
    assert_eq!(setup.solver.domain().take_log(), ["map a 0"]);
    setup.build(&graph, &b).await;
    assert_eq!(setup.solver.domain().take_log(), ["map b 0", "map b 1"]);
}

#[tokio::test]
async fn selectors_tell_keys_apart() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], op());
    let select =
        |part: &str| FakeOp { maps: vec!["copy".into()], selectors: [(0, part.to_owned())].into(), ..op() };
    let left = graph.add("left", &[&a], select("left"));
    let right = graph.add("right", &[&a], select("right"));
    let again = graph.add("again", &[&a], select("left"));
    let graph = graph.graph();
    assert_eq!(setup.runs(&graph, &left).await, "a left");
    assert_eq!(setup.runs(&graph, &right).await, "right");
    assert_eq!(setup.runs(&graph, &again).await, "");
}

#[tokio::test]
async fn ignoring_runs_again_and_hides_definitions() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], op());
    let b = graph.add("b", &[&a], op());
    let cached = graph.graph();
    assert_eq!(setup.runs(&cached, &b).await, "a b");
    let mut graph = FakeGraph::new();
    let a = graph.add_with("a", &[], op(), ignoring());
    let b = graph.add("b", &[&a], op());
    let graph = graph.graph();
    assert_eq!(setup.runs(&graph, &b).await, "a b");
    assert_eq!(setup.runs(&cached, &b).await, "");
}

#[tokio::test]
async fn lost_results_are_made_again() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], op());
    let b = graph.add("b", &[&a], op());
    let graph = graph.graph();
    assert_eq!(setup.runs(&graph, &b).await, "a b");
    setup.results.clear();
    assert_eq!(setup.runs(&graph, &b).await, "a b");
    setup.results.set_broken(true);
    assert_eq!(setup.runs(&graph, &b).await, "a b");
    setup.results.set_broken(false);
    assert_eq!(setup.runs(&graph, &b).await, "");
}

#[tokio::test]
async fn errors_reach_all_and_carry_the_vertex() {
    let setup = Setup::new();
    for (failing, text) in [(Failing::Exec, "bad: failed"), (Failing::Map, "bad: no map")] {
        let mut graph = FakeGraph::new();
        let bad = graph.add("bad", &[], FakeOp { failing, ..op() });
        let b = graph.add("b", &[&bad], op());
        let c = graph.add("c", &[&bad], op());
        let graph = graph.graph();
        let job = setup.job();
        let (b, c) = tokio::join!(job.build(&graph, b), job.build(&graph, c));
        for result in [b, c] {
            assert!(matches!(result.err().expect("fails"), Error::Op(error) if error.0 == text));
        }
    }
}

#[tokio::test]
async fn a_panic_ends_only_its_vertex() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let bad = graph.add("bad", &[], FakeOp { failing: Failing::Panic, ..op() });
    let good = graph.add("good", &[], op());
    let graph = graph.graph();
    let error = setup.job().build(&graph, bad).await.err().expect("fails");
    assert!(matches!(error, Error::Internal(text) if text == "Vertex `bad` panicked: fake panic"));
    setup.build(&graph, &good).await;
}

#[tokio::test]
async fn builds_share_a_running_vertex_until_the_last_leaves() {
    let setup = Setup::new();
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], FakeOp { gate: Some(gate.clone()), begun: Some(begun.clone()), ..op() });
    let graph = graph.graph();
    let (first, second) = (setup.job(), setup.job());
    let mut waits = Box::pin(first.build(&graph, a.clone()));
    tokio::select! {
        _ = &mut waits => panic!("is gated"),
        () = begun.notified() => {}
    }
    let mut other = Box::pin(second.build(&graph, a.clone()));
    assert!(futures_poll(&mut other).await.is_none());
    drop(waits);
    drop(first);
    gate.add_permits(1);
    other.await.expect("builds");
    assert_eq!(setup.solver.domain().take_runs(), ["a"]);
}

#[tokio::test]
async fn a_job_that_joins_a_cancelled_vertex_starts_afresh() {
    let setup = Setup::new();
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], FakeOp { gate: Some(gate.clone()), begun: Some(begun.clone()), ..op() });
    let graph = graph.graph();
    let first = setup.job();
    let mut waits = Box::pin(first.build(&graph, a.clone()));
    tokio::select! {
        _ = &mut waits => panic!("is gated"),
        () = begun.notified() => {}
    }
    drop(waits);
    drop(first);
    let second = setup.job();
    let mut other = Box::pin(second.build(&graph, a.clone()));
    tokio::select! {
        _ = &mut other => panic!("is gated"),
        () = begun.notified() => {}
    }
    gate.add_permits(1);
    other.await.expect("builds");
    assert_eq!(setup.solver.domain().take_runs(), ["a", "a"]);
}

/// Polls a future once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = tokio::task::yield_now() => None,
    }
}

#[tokio::test]
async fn outputs_of_one_vertex_run_it_once() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], FakeOp { outputs: 2, ..op() });
    let b = graph.add("b", &[&a, &output(&a, 1)], op());
    let graph = graph.graph();
    assert_eq!(setup.runs(&graph, &b).await, "a b");
    assert_eq!(setup.runs(&graph, &output(&a, 1)).await, "");
}

#[tokio::test]
async fn bad_graphs_are_refused() {
    let setup = Setup::new();
    let job = setup.job();
    let mut good = FakeGraph::new();
    let a = good.add("a", &[], op());
    let b = good.add("b", &[&a], op());
    let good = good.graph();
    let reversed = Graph { vertices: good.vertices.iter().rev().cloned().collect() };
    let twice = Graph { vertices: [good.vertices[0].clone(), good.vertices[0].clone()].into() };
    let unknown = Edge { vertex: VertexId(digest("nothing")), output: 0 };
    for (graph, edge) in [(&reversed, &b), (&twice, &a), (&good, &unknown), (&good, &output(&a, 1))] {
        let error = job.build(graph, edge.clone()).await.err().expect("is refused");
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
    let id = job.id().clone();
    let again = setup.solver.new_job(id, Arc::new(String::new()), Bus::new());
    assert!(matches!(again.err().expect("id is taken"), Error::AlreadyExists(_)));
}

#[tokio::test]
async fn ops_with_a_limit_run_one_by_one() {
    let setup = Setup::new();
    let limit = Arc::new(Semaphore::new(1));
    let mut graph = FakeGraph::new();
    let limited = || FakeOp { limit: Some(limit.clone()), ..op() };
    let inputs: Vec<Edge> = (0..20).map(|i| graph.add(&format!("in{i}"), &[], limited())).collect();
    let all: Vec<&Edge> = inputs.iter().collect();
    let end = graph.add("end", &all, limited());
    setup.build(&graph.graph(), &end).await;
    assert_eq!(setup.solver.domain().take_runs().len(), 21);
    assert_eq!(limit.available_permits(), 1);
}

#[tokio::test]
async fn a_vertex_of_equal_key_runs_once_and_late_jobs_see_its_progress() {
    let setup = Setup::new();
    let gate = Arc::new(Semaphore::new(0));
    let begun = Arc::new(Notify::new());
    let mut graph = FakeGraph::new();
    let gated = |name: &str| FakeOp {
        maps: vec![name.to_owned()],
        gate: Some(gate.clone()),
        begun: Some(begun.clone()),
        ..op()
    };
    let a = graph.add("a", &[], gated("x"));
    let b = graph.add("b", &[], gated("x"));
    let graph = graph.graph();
    let (first, second) = (setup.job(), setup.job());
    let mut one = Box::pin(first.build(&graph, a.clone()));
    tokio::select! {
        _ = &mut one => panic!("is gated"),
        () = begun.notified() => {}
    }
    let mut two = Box::pin(second.build(&graph, b.clone()));
    assert!(futures_poll(&mut two).await.is_none());
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    drop(one);
    drop(first);
    gate.add_permits(1);
    let result = two.await.expect("builds");
    assert_eq!(result.edge, b);
    assert_eq!(setup.solver.domain().take_runs(), ["a"]);
    let (status, _) = second.progress().subscribe().take();
    let done: Vec<_> = status.vertexes.iter().filter(|vertex| vertex.completed.is_some()).collect();
    assert!(done.iter().any(|vertex| vertex.name == "b" && vertex.cached), "{done:?}");
}

#[tokio::test]
async fn cancelled_load_leaves_the_record_to_others() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], op());
    let graph = graph.graph();
    setup.build(&graph, &a).await;
    setup.solver.domain().take_log();
    let gate = Arc::new(Semaphore::new(0));
    setup.results.set_gate(gate.clone());
    let job = setup.job();
    let mut first = Box::pin(job.build(&graph, a.clone()));
    assert!(futures_poll(&mut first).await.is_none());
    while setup.results.loads() == 0 {
        tokio::task::yield_now().await;
    }
    drop(first);
    gate.add_permits(2);
    job.build(&graph, a.clone()).await.expect("builds");
    assert!(setup.solver.domain().take_runs().is_empty());
}

#[tokio::test]
async fn keys_of_lost_results_are_released() {
    let setup = Setup::new();
    let mut graph = FakeGraph::new();
    let root = graph.add("root", &[], op());
    let lost = graph.add("lost", &[&root], content(&[0]));
    let kept = graph.add("kept", &[&root], op());
    let graph = graph.graph();
    setup.build(&graph, &lost).await;
    setup.results.clear();
    // The chain to the kept result goes through a key that loses its own.
    assert_eq!(setup.runs(&graph, &kept).await, "kept root");
    let keys = setup.solver.keys().clone();
    assert_eq!(keys.results().expect("answers").len(), 3, "found missing: that of the root only");
    assert_eq!(setup.solver.release_lost().await.expect("releases"), 1);
    let left = keys.results().expect("answers");
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|result| setup.solver.results().exists(result)));
    assert_eq!(setup.solver.release_lost().await.expect("releases"), 0);
    assert_eq!(setup.runs(&graph, &kept).await, "", "what is not lost is found");
    setup.results.clear();
    assert_eq!(setup.solver.release_lost().await.expect("releases"), 2);
    assert!(setup.keys.is_empty());
}

#[test]
fn deep_graphs_need_no_stack() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(async {
        let setup = Setup::new();
        let vertices: Vec<_> = {
            let mut last: Option<Edge> = None;
            let mut vertices = Vec::new();
            for i in 0..100_000 {
                let mut graph = FakeGraph::new();
                let inputs: Vec<&Edge> = last.iter().collect();
                let edge = graph.add(&format!("v{i}"), &inputs, op());
                vertices.extend(graph.graph().vertices.iter().cloned());
                last = Some(edge);
            }
            vertices
        };
        let edge = Edge { vertex: vertices.last().expect("has vertices").id.clone(), output: 0 };
        let graph = Graph { vertices: vertices.into() };
        let result = setup.build(&graph, &edge).await;
        assert_eq!(setup.solver.domain().take_runs().len(), 100_000);
        drop(result);
        setup.build(&graph, &edge).await;
        assert!(setup.solver.domain().take_runs().is_empty());
    });
}
