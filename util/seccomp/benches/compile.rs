//! Budget: the default profile, of some 400 names for three architectures, in less than 200 µs.
use buildkit_util_seccomp::{Profile, compile};
use criterion::{Criterion, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let profile = buildkit_executor_oci::default_profile(&["CAP_CHOWN"], true);
    let profile = serde_json::to_string(&profile).expect("serializable");
    let profile: Profile = serde_json::from_str(&profile).expect("a profile");
    c.bench_function("compile the default profile", |b| b.iter(|| compile(&profile).expect("good")));
}

criterion_group!(benches, bench);
criterion_main!(benches);
