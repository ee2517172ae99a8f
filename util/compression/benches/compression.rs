//! Budgets with two cores: gzip at least 1.7 times as fast as on one, zstd 1.5 times.
use std::io::Write;

use buildkit_util_compression::{Compression, Config, Encoder};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let mut data = Vec::new();
    let mut state = 1u64;
    while data.len() < 64 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        write!(data, "{:x} {} ", state >> 40, (state >> 33) % 1000).expect("writes");
    }
    let mut group = c.benchmark_group("compression");
    group.sample_size(10).throughput(Throughput::Bytes(data.len() as u64));
    for kind in [Compression::Gzip, Compression::Zstd] {
        for threads in [1, 2] {
            group.bench_function(format!("{kind}, threads: {threads}"), |b| {
                b.iter(|| {
                    let config = Config { kind, ..Config::default() };
                    let mut encoder =
                        Encoder::with_threads(config, std::io::sink(), Some(threads)).expect("an encoder");
                    encoder.write_all(&data).expect("compresses");
                    encoder.finish().expect("finishes")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
