//! Cost of output far beyond the limits. Budget: 200 MB/s, so that no process waits for its log.

use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::{Bus, LogStream};
use buildkit_util_progress_logs::{LogLimits, LogWriter};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn flood(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flood");
    for size in [64, 64 << 10] {
        let data = vec![b'x'; size];
        let writer =
            LogWriter::new(Bus::new(), Digest::sha256(b"v"), LogStream::Stdout, LogLimits::default());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("writes of {size}"), |bench| bench.iter(|| writer.write(&data)));
    }
    group.finish();
}

criterion_group!(benches, flood);
criterion_main!(benches);
