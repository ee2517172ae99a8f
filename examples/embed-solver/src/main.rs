//! The solver crate alone in another program: a graph of additions, built twice.
//!
//! Run it with `cargo run -p example-embed-solver`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_solver::{
    CacheDep, CacheMap, CacheMapStep, CacheOptions, Domain, Edge, Graph, JobId, MemoryKeyStore, Op,
    OpContext, ResultId, ResultStore, Solver, SolverOptions, VertexId, VertexSpec,
};
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::Bus;

#[derive(Clone, Debug, thiserror::Error)]
#[error("No result {0}")]
struct Missing(String);

impl Classify for Missing {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

/// Vertices are numbers; each adds its own to those of its inputs.
struct Sums;

impl Domain for Sums {
    type Vertex = i64;
    type Output = i64;
    type Job = ();
    type Error = Missing;

    fn resolve_op(&self, vertex: &VertexSpec<Self>) -> Result<Arc<dyn Op<Self>>, Missing> {
        Ok(Arc::new(Add(*vertex.payload, vertex.inputs.len())))
    }
}

struct Add(i64, usize);

#[async_trait]
impl Op<Sums> for Add {
    async fn cache_map(&self, _: &OpContext<Sums>, _: usize) -> Result<CacheMapStep<Sums>, Missing> {
        let deps = (0..self.1).map(|_| CacheDep::default()).collect();
        let digest = Digest::sha256(format!("add {}", self.0));
        Ok(CacheMapStep { map: CacheMap { digest, deps, preimage: None }, done: true })
    }

    async fn exec(&self, cx: &OpContext<Sums>, inputs: Vec<i64>) -> Result<Vec<i64>, Missing> {
        println!("  ran {}", cx.vertex().name);
        Ok(vec![self.0 + inputs.iter().sum::<i64>()])
    }
}

#[derive(Default)]
struct Results(parking_lot::Mutex<HashMap<ResultId, i64>>);

#[async_trait]
impl ResultStore<Sums> for Results {
    async fn save(&self, output: &i64, _: SystemTime) -> Result<ResultId, Missing> {
        let id = ResultId(output.to_string());
        self.0.lock().insert(id.clone(), *output);
        Ok(id)
    }

    async fn load(&self, cx: &OpContext<Sums>, id: &ResultId) -> Result<i64, Missing> {
        println!("  cached {}", cx.vertex().name);
        self.0.lock().get(id).copied().ok_or_else(|| Missing(id.0.clone()))
    }

    fn exists(&self, id: &ResultId) -> bool {
        self.0.lock().contains_key(id)
    }
}

fn vertex(number: i64, inputs: &[&Edge]) -> (Arc<VertexSpec<Sums>>, Edge) {
    let name = format!("{number} + {} inputs", inputs.len());
    let inputs: Vec<Edge> = inputs.iter().map(|edge| (*edge).clone()).collect();
    let id = VertexId(Digest::sha256(format!("{number} {inputs:?}")));
    let spec = VertexSpec {
        id: id.clone(),
        name,
        inputs,
        outputs: Some(1),
        cache: CacheOptions::default(),
        progress_group: None,
        kind: "add",
        payload: Arc::new(number),
    };
    (Arc::new(spec), Edge { vertex: id, output: 0 })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys = Arc::new(MemoryKeyStore::new());
    let solver = Solver::new(Sums, keys, Arc::new(Results::default()), SolverOptions::default());
    let ((one, one_edge), (two, two_edge)) = (vertex(1, &[]), vertex(2, &[]));
    let (sum, sum_edge) = vertex(10, &[&one_edge, &two_edge]);
    let graph = Graph { vertices: [one, two, sum].into() };
    for round in ["first", "second"] {
        println!("{round} build:");
        let job = solver.new_job(JobId(round.to_owned()), Arc::new(()), Bus::new())?;
        let result = job.build(&graph, sum_edge.clone()).await?;
        println!("  result {}", result.output);
    }
    Ok(())
}
