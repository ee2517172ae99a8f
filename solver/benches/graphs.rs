//! Whole builds of no-op vertices with keys in memory.
//!
//! Budgets (release, 2 cores): 10,000 vertices wide, deep or random, nothing cached: 0.5 s; 100,000
//! cached: 2 s; 2 KiB of memory for each vertex while its job lives.

#![expect(clippy::print_stdout, reason = "figures that criterion does not measure")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buildkit_solver::{Edge, Graph, JobId, MemoryKeyStore, Solver, SolverOptions};
use buildkit_solver_testutil::{FakeDomain, FakeGraph, FakeOp, FakeResults, Random};
use buildkit_util_progress::Bus;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

/// Counts the bytes that are in use.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        USED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Copy)]
enum Shape {
    Wide,
    Deep,
    Random,
}

fn graph(shape: Shape, count: usize) -> (Graph<FakeDomain>, Edge) {
    let mut random = Random::new(7);
    let mut vertices = Vec::with_capacity(count);
    let mut edges: Vec<Edge> = Vec::with_capacity(count);
    for place in 0..count {
        let last = place + 1 == count;
        let inputs: Vec<&Edge> = match shape {
            Shape::Wide if last => edges.iter().collect(),
            Shape::Wide => Vec::new(),
            Shape::Deep => edges.last().into_iter().collect(),
            Shape::Random => {
                // Mostly near ones, and the one before, so that everything is needed in the end.
                let far = (0..2).map(|_| random.below(place.min(50)) + place.saturating_sub(50));
                let mut inputs: Vec<usize> =
                    far.chain(place.checked_sub(1)).filter(|at| *at < place).collect();
                inputs.sort_unstable();
                inputs.dedup();
                inputs.into_iter().filter_map(|at| edges.get(at)).collect()
            }
        };
        let mut one = FakeGraph::new();
        let edge = one.add(&format!("v{place}"), &inputs, FakeOp::default());
        vertices.extend(one.graph().vertices.iter().cloned());
        edges.push(edge);
    }
    let end = edges.pop().expect("is not empty");
    (Graph { vertices: vertices.into() }, end)
}

fn solver() -> Solver<FakeDomain> {
    let keys = Arc::new(MemoryKeyStore::new());
    Solver::new(FakeDomain::default(), keys, Arc::new(FakeResults::default()), SolverOptions::default())
}

fn build(runtime: &Runtime, solver: &Solver<FakeDomain>, graph: &Graph<FakeDomain>, edge: &Edge) -> usize {
    let job =
        solver.new_job(JobId("bench".into()), Arc::new(String::new()), Bus::new()).expect("one at a time");
    black_box(runtime.block_on(job.build(graph, edge.clone())).expect("builds"));
    USED.load(Ordering::Relaxed)
}

/// The bytes in use once everything that was dropped is gone, by whichever thread.
fn settled() -> usize {
    let mut last = usize::MAX;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let used = USED.load(Ordering::Relaxed);
        if used == last {
            return used;
        }
        last = used;
    }
}

/// What all threads work meanwhile: steadier than the time that passes where others use the machine.
fn cpu_time<T>(work: impl FnOnce() -> T) -> Duration {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    };
    let before = now();
    black_box(work());
    now().saturating_sub(before)
}

fn builds(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("builds");
    group.sample_size(10);
    for (name, shape) in [("wide", Shape::Wide), ("deep", Shape::Deep), ("random", Shape::Random)] {
        let (small, end) = graph(shape, 10_000);
        let times = (0..5).map(|_| {
            let solver = solver();
            cpu_time(|| build(&runtime, &solver, &small, &end))
        });
        println!("uncached {name}, 10k: {:?} of CPU time", times.min().expect("has run"));
        group.bench_function(format!("uncached_{name}_10k"), |bencher| {
            bencher.iter_batched(
                solver,
                |solver| {
                    build(&runtime, &solver, &small, &end);
                    solver
                },
                BatchSize::PerIteration,
            );
        });
        let (large, end) = graph(shape, 100_000);
        let solver = solver();
        let before = settled();
        let during = build(&runtime, &solver, &large, &end);
        println!(
            "uncached {name}: {} bytes for each vertex, its keys and results included",
            during.saturating_sub(before) / 100_000
        );
        solver.domain().take_log();
        // The job of the build before has gone when this one is answered.
        build(&runtime, &solver, &graph(Shape::Deep, 1).0, &graph(Shape::Deep, 1).1);
        solver.domain().take_log();
        let before = settled();
        let during = build(&runtime, &solver, &large, &end);
        println!("cached {name}: {} bytes for each vertex", during.saturating_sub(before) / 100_000);
        let times = (0..3).map(|_| cpu_time(|| build(&runtime, &solver, &large, &end)));
        println!("cached {name}, 100k: {:?} of CPU time", times.min().expect("has run"));
        group.bench_function(format!("cached_{name}_100k"), |bencher| {
            bencher.iter(|| build(&runtime, &solver, &large, &end));
        });
    }
    group.finish();
}

criterion_group!(benches, builds);
criterion_main!(benches);
