//! Compiles the default profile of sandboxed containers, which is done for each of them.
//!
//! Budget: 150 µs.

use buildkit_executor_oci::default_profile;
use buildkit_util_seccomp::{Profile, compile};
use criterion::{Criterion, criterion_group, criterion_main};

fn default(c: &mut Criterion) {
    let profile = default_profile(&buildkit_executor_oci::DEFAULT_CAPABILITIES, true);
    let json = serde_json::to_vec(&profile).expect("serialisable");
    c.bench_function("seccomp/read", |b| {
        b.iter(|| serde_json::from_slice::<Profile>(&json).expect("a profile"));
    });
    let profile: Profile = serde_json::from_slice(&json).expect("a profile");
    c.bench_function("seccomp/compile", |b| b.iter(|| compile(&profile).expect("a program")));
}

criterion_group!(benches, default);
criterion_main!(benches);
