//! Merging of active vertices: the mistakes that others made and reported.

use std::sync::Arc;

use buildkit_solver::{CacheOptions, Edge, Graph, Job, JobId, MemoryKeyStore, Solver, SolverOptions};
use buildkit_solver_testutil::{FakeDomain, FakeGraph, FakeOp, FakeResults, output};
use buildkit_util_progress::Bus;
use tokio::sync::{Notify, Semaphore};

fn solver() -> Solver<FakeDomain> {
    let keys = Arc::new(MemoryKeyStore::new());
    Solver::new(FakeDomain::default(), keys, Arc::new(FakeResults::default()), SolverOptions::default())
}

fn job(solver: &Solver<FakeDomain>, id: &str) -> Job<FakeDomain> {
    solver.new_job(JobId(id.to_owned()), Arc::new(id.to_owned()), Bus::new()).expect("is new")
}

fn mapped(text: &str) -> FakeOp {
    FakeOp { maps: vec![text.to_owned()], ..FakeOp::default() }
}

/// A gate that lets runs through one by one, and tells when one has come to it.
#[derive(Clone)]
struct Gate {
    permits: Arc<Semaphore>,
    begun: Arc<Notify>,
}

impl Gate {
    fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), begun: Arc::new(Notify::new()) }
    }

    fn op(&self, text: &str) -> FakeOp {
        FakeOp { gate: Some(self.permits.clone()), begun: Some(self.begun.clone()), ..mapped(text) }
    }
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Outputs of two equal vertices, crosswise: each could take over one output of the other, so that
/// they would keep each other alive or wait for each other (issue 2303, pull requests 4347 and 4559).
#[tokio::test]
async fn equal_vertices_with_two_outputs_do_not_merge_both_ways() {
    let orders: [[(usize, u32); 4]; 4] = [
        [(0, 0), (1, 1), (1, 0), (0, 1)],
        [(1, 1), (0, 0), (0, 1), (1, 0)],
        [(0, 0), (0, 1), (1, 0), (1, 1)],
        [(1, 0), (0, 1), (0, 0), (1, 1)],
    ];
    for order in orders {
        let solver = solver();
        let mut graph = FakeGraph::new();
        let two = || FakeOp { outputs: 2, ..mapped("same") };
        let pair = [graph.add("a", &[], two()), graph.add("b", &[], two())];
        let inputs = order.map(|(place, number)| output(&pair[place], number));
        let end = graph.add("end", &inputs.iter().collect::<Vec<_>>(), mapped("end"));
        let built = job(&solver, "one").build(&graph.graph(), end).await;
        built.expect("builds");
        let runs = solver.domain().take_runs();
        assert_eq!(runs.iter().filter(|name| *name != "end").count(), 1, "{runs:?}");
    }
}

/// Jobs of vertices that took over others leave in every order; the last one still gets its result
/// (pull request 4818).
#[tokio::test]
async fn owners_may_leave_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let solver = solver();
        let gate = Gate::new();
        let mut graph = FakeGraph::new();
        let roots = ["a", "b", "c"].map(|name| graph.add(name, &[], gate.op("root")));
        let ends: Vec<Edge> = roots
            .iter()
            .enumerate()
            .map(|(n, root)| graph.add(&format!("end{n}"), &[root], mapped("end")))
            .collect();
        let graph: Graph<FakeDomain> = graph.graph();
        let mut jobs: Vec<Option<_>> = Vec::new();
        for (place, end) in ends.iter().enumerate() {
            let job = Arc::new(job(&solver, &format!("job{place}")));
            let (graph, end) = (graph.clone(), end.clone());
            let task = tokio::task::LocalSet::new();
            let handle =
                task.spawn_local(async move { job.build(&graph, end).await.map(|result| result.edge) });
            task.run_until(settle()).await;
            jobs.push(Some((task, handle)));
        }
        gate.begun.notified().await;
        for place in order.iter().take(2) {
            jobs[*place] = None;
            settle().await;
        }
        gate.permits.add_permits(10);
        let (task, handle) = jobs[order[2]].take().expect("stays");
        let edge = task.run_until(handle).await.expect("ends").expect("builds");
        assert_eq!(edge, ends[order[2]]);
    }
}

/// A vertex joins an active one whose input is another node than the joiner's own (it ignores the
/// cache); that input must live on when its first owner leaves.
#[tokio::test]
async fn inputs_of_a_joined_vertex_outlive_their_first_owner() {
    let solver = solver();
    let gate = Gate::new();
    let mut first = FakeGraph::new();
    let a = first.add("a", &[], gate.op("a"));
    let b = first.add("b", &[&a], mapped("b"));
    let mut second = FakeGraph::new();
    let ignore = CacheOptions { ignore: true, export: None };
    let a2 = second.add_with("a", &[], gate.op("a"), ignore);
    second.add("b", &[&a2], mapped("b"));
    let (old, new) = (job(&solver, "old"), job(&solver, "new"));
    let (first, second) = (first.graph(), second.graph());
    let mut one = Box::pin(old.build(&first, b.clone()));
    tokio::select! {
        _ = &mut one => panic!("is gated"),
        () = gate.begun.notified() => {}
    }
    let mut two = Box::pin(new.build(&second, b.clone()));
    tokio::select! {
        biased;
        _ = &mut two => panic!("is gated"),
        () = settle() => {}
    }
    drop(one);
    drop(old);
    settle().await;
    gate.permits.add_permits(10);
    two.await.expect("builds");
}

/// A vertex that gives what its input gave has a key in common with it; they must not wait for each
/// other.
#[tokio::test]
async fn a_vertex_does_not_merge_with_its_input() {
    let solver = solver();
    let mut graph = FakeGraph::new();
    let base = graph.add("base", &[], FakeOp { same_content: Some("same".into()), ..mapped("base") });
    let copy = || FakeOp { content: [0].into(), same_content: Some("same".into()), ..mapped("copy") };
    let once = graph.add("once", &[&base], copy());
    let twice = graph.add("twice", &[&once], copy());
    job(&solver, "one").build(&graph.graph(), twice).await.expect("builds");
}
