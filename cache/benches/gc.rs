//! Budgets on one core of a 2 GHz machine: planning a collection over 100 000 records in chains of
//! ten ≤ 400 ms with a limit, ≤ 250 ms without one.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use buildkit_cache::gc::plan;
use buildkit_cache::{GcPolicy, RecordType, RefId, UsageRecord};
use buildkit_util_disk::Space;
use criterion::{Criterion, criterion_group, criterion_main};

fn records() -> Vec<UsageRecord> {
    let time = |number: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(number);
    (0..100_000u64)
        .map(|number| UsageRecord {
            id: RefId::new(&format!("record-{number:020}")),
            mutable: false,
            in_use: number % 1000 == 0,
            size: 4096 * (1 + (number * 7919 % 1000) as i64),
            created_at: time(number),
            last_used_at: Some(time(number * 31 % 100_000)),
            usage_count: number % 17,
            parents: (number % 10 != 0)
                .then(|| RefId::new(&format!("record-{:020}", number - 1)))
                .into_iter()
                .collect(),
            description: "step".to_owned(),
            record_type: RecordType::Regular,
            shared: false,
        })
        .collect()
}

fn benches(criterion: &mut Criterion) {
    let records = records();
    let total: i64 = records.iter().map(|record| record.size).sum();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut group = criterion.benchmark_group("gc");
    group.sample_size(10);
    let cases = [
        ("half of 100k records", GcPolicy { max_used_space: total / 2, ..GcPolicy::default() }),
        ("all of 100k records", GcPolicy::default()),
    ];
    for (name, policy) in cases {
        let policies = [policy];
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(plan(&records, &policies, now, Space::default()).expect("plan")));
        });
    }
    group.finish();
}

criterion_group!(gc, benches);
criterion_main!(gc);
