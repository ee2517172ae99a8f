//! What control groups add to a container: making one in all hierarchies with usual limits and device
//! rules, entering it, and removing it.
//!
//! Budget: 2 ms in all. Needs root.

use buildkit_executor_resources::{Cgroup, DeviceRule, Hierarchies, Limits, default_device_rules};
use criterion::{Criterion, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let hierarchies = Hierarchies::detect().expect("mount table");
    let above = format!("/buildkit-bench-{}", std::process::id());
    let keep = Cgroup::new(&hierarchies, &above);
    keep.create(&Limits::default(), &[]).expect("group");
    let group = Cgroup::new(&hierarchies, &format!("{above}/one"));
    let limits =
        Limits { pids: Some(1000), cpu_shares: Some(512), memory: Some(1 << 30), ..Limits::default() };
    let mut devices = vec![DeviceRule::all(false)];
    devices.extend(default_device_rules());
    c.bench_function("look up the hierarchies", |b| b.iter(Hierarchies::detect));
    c.bench_function("make and remove", |b| {
        b.iter(|| {
            group.create(&limits, &devices).expect("create");
            assert!(group.remove_if_empty());
        });
    });
    let mut unified = hierarchies.clone();
    unified.all.retain(|hierarchy| hierarchy.unified);
    let alone = Cgroup::new(&unified, &format!("{above}/alone"));
    for (name, devices) in [("unified alone", &[][..]), ("unified alone, devices", &devices)] {
        c.bench_function(name, |b| {
            b.iter(|| {
                alone.create(&Limits::default(), devices).expect("create");
                assert!(alone.remove_if_empty());
            });
        });
    }
    c.bench_function("make, look for processes, and remove", |b| {
        b.iter(|| {
            group.create(&limits, &devices).expect("create");
            assert!(!group.kill());
            group.remove().expect("remove");
        });
    });
    c.bench_function("make, enter with a new thread, and remove", |b| {
        b.iter(|| {
            let opened = group.create(&limits, &devices).expect("create");
            std::thread::scope(|scope| {
                scope.spawn(|| opened.join_self().expect("join")).join().expect("thread")
            });
            group.remove().expect("remove");
        });
    });
    c.bench_function("a new thread", |b| {
        b.iter(|| std::thread::scope(|scope| scope.spawn(|| ()).join().expect("thread")));
    });
    keep.remove().expect("remove");
}

criterion_group!(benches, bench);
criterion_main!(benches);
