//! The solver crate alone in another program: a graph of additions, built twice.
//!
//! Run it with `cargo run -p example-embed-solver`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::sync::Arc;

use async_trait::async_trait;
use buildkit_solver::{
    CacheMapStep, Domain, Edge, Graph, JobId, MemoryKeyStore, MemoryResults, MissingResult, Op, OpContext,
    Solver, SolverOptions, VertexId, VertexSpec,
};
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::Bus;

/// Vertices are numbers; each adds its own to the results of its inputs.
struct Sums;

impl Domain for Sums {
    type Vertex = i64;
    type Output = i64;
    type Job = ();
    type Error = MissingResult;

    fn resolve_op(&self, vertex: &VertexSpec<Self>) -> Result<Arc<dyn Op<Self>>, MissingResult> {
        Ok(Arc::new(Add(*vertex.payload, vertex.inputs.len())))
    }
}

struct Add(i64, usize);

#[async_trait]
impl Op<Sums> for Add {
    async fn cache_map(&self, _: &OpContext<Sums>, _: usize) -> Result<CacheMapStep<Sums>, MissingResult> {
        Ok(CacheMapStep::only(Digest::sha256(format!("add {}", self.0)), self.1))
    }

    async fn exec(&self, _: &OpContext<Sums>, inputs: Vec<i64>) -> Result<Vec<i64>, MissingResult> {
        println!("  adding {} to {inputs:?}", self.0);
        Ok(vec![self.0 + inputs.iter().sum::<i64>()])
    }
}

/// A vertex and its output.
fn add(number: i64, inputs: Vec<Edge>) -> (Arc<VertexSpec<Sums>>, Edge) {
    let id = VertexId(Digest::sha256(format!("{number} {inputs:?}")));
    (Arc::new(VertexSpec::new(id.clone(), "add", inputs, number)), Edge { vertex: id, output: 0 })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (keys, results) = (MemoryKeyStore::new(), MemoryResults::default());
    let solver = Solver::new(Sums, Arc::new(keys), Arc::new(results), SolverOptions::default());
    let ((one, one_out), (two, two_out)) = (add(1, vec![]), add(2, vec![]));
    let (sum, sum_out) = add(10, vec![one_out, two_out]);
    let graph = Graph { vertices: [one, two, sum].into() };
    for round in ["first", "second"] {
        println!("{round} build:");
        let job = solver.new_job(JobId(round.to_owned()), Arc::new(()), Bus::new())?;
        println!("  result {}", job.build(&graph, sum_out.clone()).await?.output);
    }
    Ok(())
}
