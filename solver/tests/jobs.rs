//! What jobs have of each other, and what not.

use std::sync::Arc;

use buildkit_solver::{
    Edge, Graph, Job, JobId, KeySource as _, MemoryKeyStore, Solver, SolverOptions, root_key,
};
use buildkit_solver_testutil::{Deaf, FakeDomain, FakeGraph, FakeOp, FakeResults, digest};
use buildkit_util_progress::Bus;
use tokio::sync::{Notify, Semaphore};

fn solver(keys: &Arc<MemoryKeyStore>, results: &Arc<FakeResults>) -> Solver<FakeDomain> {
    Solver::new(FakeDomain::default(), keys.clone(), results.clone(), SolverOptions::default())
}

fn job(solver: &Solver<FakeDomain>, id: &str, progress: Bus) -> Arc<Job<FakeDomain>> {
    Arc::new(solver.new_job(JobId(id.to_owned()), Arc::new(id.to_owned()), progress).expect("id is new"))
}

/// Begins to build in a task of its own, which holds the job until the build is done.
fn spawn(
    job: &Arc<Job<FakeDomain>>,
    graph: &Graph<FakeDomain>,
    edge: &Edge,
) -> buildkit_util_appcontext::TaskGuard<Option<String>> {
    let (job, graph, edge) = (job.clone(), graph.clone(), edge.clone());
    buildkit_util_appcontext::spawn(async move {
        job.build(&graph, edge).await.err().map(|error| error.to_string())
    })
}

/// Cancelled work may end with an error instead of not at all: it blocks, or it says that it was cancelled, at
/// the moment in which another job comes. That error is not the other job's.
async fn cancelled_work_fails_no_newcomer(call: &'static str) {
    let solver = solver(&Arc::default(), &Arc::default());
    let (deaf, end) = Deaf::new(call);
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], FakeOp::default());
    let op = FakeOp { content: [0].into(), deaf: Some(deaf.clone()), ..FakeOp::default() };
    let b = graph.add("b", &[&a], op);
    let graph = graph.graph();

    let first = job(&solver, "first", Bus::new());
    let cancelled = spawn(&first, &graph, &b);
    deaf.begun().await;
    // The build lets go of the job that it holds when it has ended.
    cancelled.abort();
    let _ = cancelled.await;
    drop(first);

    let progress = Bus::new();
    let mut joined = progress.subscribe();
    let second = job(&solver, "second", progress);
    let build = spawn(&second, &graph, &b);
    // The vertex is shown to a job that has joined it.
    while !joined.next().await.expect("a bus").vertexes.iter().any(|vertex| vertex.digest == b.vertex.0) {}
    end.send(()).expect("the call waits");
    assert_eq!(build.await.expect("no panic"), None, "{call}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_maps_fail_no_newcomer() {
    cancelled_work_fails_no_newcomer("map").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_digests_fail_no_newcomer() {
    cancelled_work_fails_no_newcomer("digest").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_runs_fail_no_newcomer() {
    cancelled_work_fails_no_newcomer("exec").await;
}

#[tokio::test]
async fn jobs_that_come_late_are_told_what_a_vertex_wrote() {
    let solver = solver(&Arc::default(), &Arc::default());
    let mut graph = FakeGraph::new();
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let op = FakeOp {
        says: vec!["one".to_owned(), "two".to_owned()],
        gate: Some(gate.clone()),
        begun: Some(begun.clone()),
        ..FakeOp::default()
    };
    let a = graph.add("a", &[], op);
    let graph = graph.graph();
    let start = |id: &str| {
        let bus = Bus::new();
        let job = job(&solver, id, bus.clone());
        (spawn(&job, &graph, &a), bus)
    };
    let told = async |bus: &Bus| {
        let mut reader = bus.subscribe();
        let mut texts = Vec::new();
        while texts.len() < 2 {
            let logs = reader.next().await.expect("a bus").logs;
            texts.extend(logs.into_iter().map(|log| String::from_utf8_lossy(&log.data).into_owned()));
        }
        texts
    };
    let (first, first_bus) = start("first");
    begun.notified().await;
    let (second, second_bus) = start("second");
    for bus in [&first_bus, &second_bus] {
        assert_eq!(told(bus).await, ["one", "two"]);
    }
    first_bus.close();
    first.abort();
    let _ = first.await;
    let (third, third_bus) = start("third");
    assert_eq!(told(&third_bus).await, ["one", "two"], "the first is gone, the second knows");
    gate.add_permits(1);
    for build in [second, third] {
        assert_eq!(build.await.expect("no panic"), None);
    }
    assert_eq!(second_bus.past(&a.vertex.0).len(), 2, "once");
    assert_eq!(third_bus.past(&a.vertex.0).len(), 2, "once");
}

#[tokio::test]
async fn keys_of_elsewhere_serve_the_jobs_that_have_them() {
    let (keys, elsewhere, results) = (Arc::default(), Arc::default(), Arc::default());
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], FakeOp::default());
    let b = graph.add("b", &[&a], FakeOp::default());
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let waits = FakeOp { gate: Some(gate.clone()), begun: Some(begun.clone()), ..FakeOp::default() };
    let other = graph.add("other", &[], waits);
    let graph = graph.graph();
    // What another solver has made can be loaded here, where no key is known.
    let builder = solver(&elsewhere, &results);
    job(&builder, "builder", Bus::new()).build(&graph, b.clone()).await.expect("builds");
    let solver = solver(&keys, &results);
    let runs = async |id: &str| {
        solver.domain().take_log();
        let built = job(&solver, id, Bus::new()).build(&graph, b.clone()).await.expect("builds");
        (solver.domain().take_runs().join(" "), built)
    };

    let importing = job(&solver, "importing", Bus::new());
    solver.domain().add_source("importing", elsewhere.clone());
    let goes_on = spawn(&importing, &graph, &other);
    begun.notified().await;
    solver.domain().add_source("also importing", elsewhere.clone());
    let (ran, built) = runs("also importing").await;
    assert_eq!(ran, "");
    assert!(!keys.exists(built.keys.first().expect("a key").id()).expect("answers"));
    assert!(!keys.exists(&root_key(&digest("a"), Some(0))).expect("answers"));
    // A job that looks nowhere else is not served by those that do.
    assert_eq!(runs("another").await.0, "a b");
    gate.add_permits(1);
    assert_eq!(goes_on.await.expect("no panic"), None);
}
