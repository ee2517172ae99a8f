//! Walks of keys after builds.

use std::sync::Arc;

use async_trait::async_trait;
use buildkit_solver::{
    CachedResult, Edge, ExportMode, ExportOptions, ExportRecord, JobId, KeySource as _, LayerSource,
    MemoryKeyStore, ResultId, Solver, SolverOptions, export, root_key,
};
use buildkit_solver_testutil::{FakeDomain, FakeGraph, FakeOp, FakeResults, digest};
use buildkit_util_progress::Bus;

/// Layers are the names of results; some are remote already.
struct Names {
    remote: Vec<ResultId>,
}

#[async_trait]
impl LayerSource for Names {
    type Layers = String;
    type Error = ();

    async fn layers(&self, result: &ResultId, make: bool) -> Result<Option<String>, ()> {
        Ok((make || self.remote.contains(result)).then(|| result.0.clone()))
    }
}

async fn build(graph: &FakeGraph, edges: &[&Edge]) -> (Arc<MemoryKeyStore>, Vec<CachedResult<FakeDomain>>) {
    let keys = Arc::new(MemoryKeyStore::new());
    let results = Arc::new(FakeResults::default());
    let solver = Solver::new(FakeDomain::default(), keys.clone(), results, SolverOptions::default());
    let job = solver.new_job(JobId("one".into()), Arc::new(String::new()), Bus::new()).expect("is new");
    let mut built = Vec::new();
    for edge in edges {
        built.push(job.build(&graph.graph(), (*edge).clone()).await.expect("builds"));
    }
    (keys, built)
}

fn named(text: &str) -> FakeOp {
    FakeOp { maps: vec![text.to_owned()], ..FakeOp::default() }
}

async fn walk(
    keys: &MemoryKeyStore,
    result: &CachedResult<FakeDomain>,
    mode: ExportMode,
    roots: bool,
    remote: Vec<ResultId>,
) -> Vec<ExportRecord<String>> {
    let options = ExportOptions { mode, roots, only_this_build: false };
    export(&result.keys, &[keys], &Names { remote }, options).await.expect("walks")
}

fn shape(records: &[ExportRecord<String>]) -> Vec<(usize, usize)> {
    let mut shape: Vec<_> =
        records.iter().map(|record| (record.inputs.len(), record.results.len())).collect();
    shape.sort_unstable();
    shape
}

#[tokio::test]
async fn modes_decide_which_results_go() {
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], named("a"));
    let b = graph.add("b", &[&a], named("b"));
    let c = graph.add("c", &[&b, &a], named("c"));
    let (keys, built) = build(&graph, &[&c]).await;
    let result = &built[0];
    let max = walk(&keys, result, ExportMode::Max, false, Vec::new()).await;
    assert_eq!(shape(&max), [(0, 0), (1, 1), (2, 1)]);
    assert_eq!(max[0].digest, root_key(&digest("a"), Some(0)).0);
    assert_eq!(max.last().expect("has records").digest, root_key(&digest("c"), Some(0)).0);
    for (place, record) in max.iter().enumerate() {
        assert!(record.inputs.iter().flatten().all(|link| link.record < place));
    }
    let all = walk(&keys, result, ExportMode::Max, true, Vec::new()).await;
    assert_eq!(shape(&all), [(0, 1), (1, 1), (2, 1)]);
    let min = walk(&keys, result, ExportMode::Min, false, Vec::new()).await;
    assert_eq!(shape(&min), [(0, 0), (1, 0), (2, 1)]);
    let none = walk(&keys, result, ExportMode::RemoteOnly, false, Vec::new()).await;
    assert_eq!(shape(&none), [(0, 0), (1, 0), (2, 0)]);
    let middle = keys.records(result.keys[0].deps[0][0].key.id()).expect("answers");
    let remote = walk(&keys, result, ExportMode::Min, false, vec![middle[0].result.clone()]).await;
    assert_eq!(shape(&remote), [(0, 0), (1, 1), (2, 1)]);
}

#[tokio::test]
async fn content_keys_and_definitions_lead_to_one_record() {
    let mut graph = FakeGraph::new();
    let same = |name: &str| FakeOp { same_content: Some("same".into()), ..named(name) };
    let a = graph.add("a", &[], same("a"));
    let b = graph.add("b", &[], same("b"));
    let copy = || FakeOp { content: [0].into(), ..named("copy") };
    let first = graph.add("first", &[&a], copy());
    let second = graph.add("second", &[&b], copy());
    let (keys, built) = build(&graph, &[&first, &second]).await;
    let records = walk(&keys, &built[1], ExportMode::Max, false, Vec::new()).await;
    let last = records.last().expect("has records");
    assert_eq!(last.inputs.len(), 1);
    let sources: Vec<_> = last.inputs[0].iter().map(|link| &records[link.record].digest).collect();
    let content = root_key(&digest("same"), None).0;
    let definitions = [root_key(&digest("a"), Some(0)).0, root_key(&digest("b"), Some(0)).0];
    assert!(sources.contains(&&content), "{sources:?}");
    assert!(definitions.iter().all(|digest| sources.contains(&digest)), "{sources:?}");
    assert_eq!(records.iter().filter(|record| !record.inputs.is_empty()).count(), 1);
}

#[tokio::test]
async fn export_can_be_forbidden_for_a_vertex() {
    let mut graph = FakeGraph::new();
    let a = graph.add("a", &[], named("a"));
    let hidden = buildkit_solver::CacheOptions { ignore: false, export: Some(false) };
    let b = graph.add_with("b", &[&a], named("b"), hidden);
    let c = graph.add("c", &[&b], named("c"));
    let (keys, built) = build(&graph, &[&c]).await;
    let records = walk(&keys, &built[0], ExportMode::Max, false, Vec::new()).await;
    assert_eq!(records.iter().map(|record| record.results.len()).collect::<Vec<_>>(), [0, 0, 1]);
}
