//! Builds that the Go daemon did, again: the same steps run, and the same are found in the cache.
//!
//! `vectors/builds.json` was recorded from its progress. Per case: a graph, and builds of it one after
//! another in a new cache. The graph's operations are
//! - `file`: a file with a text on nothing. With a salt the definition is another, the tree the same;
//! - `on`: a file on top of its input, which is taken by its definition;
//! - `copy`: all its inputs' files copied onto nothing: they are taken by their content;
//! - `merge`: its inputs on top of each other, taken by their definitions;
//! - `local`: the files of the client, another vertex at each build.
//!
//! A build has a target, changes of the graph, the client's files and the vertices that ignore the
//! cache; then the names of the vertices that were done (that ran, or of which only the key was made
//! if they have no inputs) and that were cached, as a client sees them at the end. Vertices that are
//! in neither list were one or the other by chance when the builds were recorded several times.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use buildkit_solver::{
    CacheOptions, Edge, Graph, JobId, MemoryKeyStore, Solver, SolverOptions, VertexId, VertexSpec,
};
use buildkit_solver_testutil::{FakeDomain, FakeOp, FakeResults, digest};
use buildkit_util_progress::{Bus, SkippedSteps};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    vertices: Vec<Vertex>,
    builds: Vec<Build>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    File,
    On,
    Copy,
    Merge,
    Local,
}

#[derive(Clone, Deserialize)]
struct Vertex {
    name: String,
    kind: Kind,
    #[serde(default)]
    inputs: Vec<String>,
    #[serde(flatten)]
    details: Details,
}

#[derive(Clone, Default, Deserialize)]
struct Details {
    path: Option<String>,
    text: Option<String>,
    salt: Option<String>,
}

#[derive(Deserialize)]
struct Build {
    target: String,
    #[serde(default)]
    change: HashMap<String, Details>,
    #[serde(default)]
    local: String,
    #[serde(default)]
    ignore: HashSet<String>,
    done: BTreeSet<String>,
    cached: BTreeSet<String>,
}

/// Paths and texts of a result.
type Tree = BTreeMap<String, String>;

/// The graph of a build, and the edge it wants.
fn graph(case: &Case, build: &Build, number: usize) -> (Graph<FakeDomain>, Edge) {
    let mut edges: HashMap<&str, Edge> = HashMap::new();
    let mut trees: HashMap<&str, Tree> = HashMap::new();
    let mut specs: Vec<Arc<VertexSpec<FakeDomain>>> = Vec::new();
    for vertex in &case.vertices {
        let change = build.change.get(&vertex.name).cloned().unwrap_or_default();
        let details = Details {
            path: change.path.or_else(|| vertex.details.path.clone()),
            text: change.text.or_else(|| vertex.details.text.clone()),
            salt: change.salt.or_else(|| vertex.details.salt.clone()),
        };
        let inputs: Vec<Edge> = vertex.inputs.iter().map(|name| edges[name.as_str()].clone()).collect();
        let mut tree: Tree = vertex.inputs.iter().flat_map(|name| trees[name.as_str()].clone()).collect();
        let (path, text) = (details.path.unwrap_or_default(), details.text.unwrap_or_default());
        let definition = match vertex.kind {
            Kind::File => format!("file {path} {text} {}", details.salt.unwrap_or_default()),
            Kind::On => format!("on {path} {text}"),
            Kind::Copy => format!("copy {}", inputs.len()),
            Kind::Merge => format!("merge {}", inputs.len()),
            Kind::Local => format!("local {number}"),
        };
        match vertex.kind {
            Kind::File | Kind::On => {
                tree.insert(path, text);
            }
            Kind::Local => {
                tree.insert("/data".to_owned(), build.local.clone());
            }
            Kind::Copy | Kind::Merge => {}
        }
        let below: String = inputs.iter().map(|input| format!(" {}", input.vertex.0)).collect();
        let id = VertexId(digest(format!("{definition}{below}")));
        let op = FakeOp {
            name: vertex.name.clone(),
            maps: vec![definition],
            content: if matches!(vertex.kind, Kind::Copy) {
                (0..inputs.len()).collect()
            } else {
                HashSet::new()
            },
            same_content: Some(format!("{tree:?}")),
            ..FakeOp::default()
        };
        edges.insert(&vertex.name, Edge { vertex: id.clone(), output: 0 });
        trees.insert(&vertex.name, tree);
        let spec = Arc::new(VertexSpec {
            id: id.clone(),
            name: vertex.name.clone(),
            inputs,
            outputs: Some(1),
            cache: CacheOptions { ignore: build.ignore.contains(&vertex.name), export: None },
            progress_group: None,
            kind: "fake",
            payload: Arc::new(op),
        });
        // Of vertices with one definition the last one gives the name.
        match specs.iter_mut().find(|old| old.id == id) {
            Some(old) => *old = spec,
            None => specs.push(spec),
        }
    }
    (Graph { vertices: specs.into() }, edges[build.target.as_str()].clone())
}

/// Names of the vertices that were done, and of those that were cached.
fn outcome(bus: &Bus) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut last: HashMap<String, bool> = HashMap::new();
    let (mut reader, mut skipped) = (bus.subscribe(), SkippedSteps::default());
    loop {
        let (mut batch, _) = reader.take();
        if batch.is_empty() {
            break;
        }
        skipped.complete(&mut batch);
        for vertex in batch.vertexes.into_iter().filter(|vertex| vertex.completed.is_some()) {
            last.insert(vertex.name, vertex.cached);
        }
    }
    let names = |cached| last.iter().filter(|(_, is)| **is == cached).map(|(name, _)| name.clone()).collect();
    (names(false), names(true))
}

async fn replay(case: &Case) -> Result<(), String> {
    let keys = Arc::new(MemoryKeyStore::new());
    let results = Arc::new(FakeResults::default());
    let solver = Solver::new(FakeDomain::default(), keys, results, SolverOptions::default());
    for (number, build) in case.builds.iter().enumerate() {
        let (graph, target) = graph(case, build, number);
        let bus = Bus::new();
        let id = JobId(number.to_string());
        let job = solver.new_job(id.clone(), Arc::new(id.0), bus.clone()).expect("is new");
        job.build(&graph, target).await.expect("builds");
        drop(job);
        let (done, cached) = outcome(&bus);
        if !build.done.is_subset(&done) || !build.cached.is_subset(&cached) {
            return Err(format!(
                "build {number} of `{}`: done {done:?}, cached {cached:?}; the Go daemon: done {:?}, cached {:?}",
                case.name, build.done, build.cached
            ));
        }
    }
    Ok(())
}

#[tokio::test]
async fn builds_go_as_in_the_go_daemon() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("vectors/builds.json")).expect("vectors");
    assert!(cases.len() >= 30);
    let mut failed = Vec::new();
    for case in cases {
        failed.extend(replay(&case).await.err());
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
