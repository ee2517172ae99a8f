//! Budget: 10,000 paths against 20 patterns of a usual `.dockerignore` in at most 50 ms.
use buildkit_util_patternmatcher::{MatchInfo, PatternMatcher};
use criterion::{Criterion, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let patterns = [
        ".git",
        "**/node_modules",
        "*.md",
        "!README.md",
        "**/*.log",
        "target/**",
        "docs/*/draft?.txt",
        "**/.DS_Store",
        "**/*.swp",
        "dist",
        "build/[a-f]*",
        "**/*~",
        "coverage",
        "tmp/**/*.bin",
        "**/__pycache__",
        "**/*.py[cod]",
        ".env*",
        "secrets/*",
        "!secrets/public",
        "**/test-*.xml",
    ];
    let paths: Vec<String> =
        (0..10_000).map(|i| format!("src/d{}/e{}/file{i}.rs", i % 10, i % 100)).collect();
    let matcher = PatternMatcher::new(patterns).expect("well formed");
    c.bench_function("10k paths, 20 patterns, by parents", |b| {
        b.iter(|| paths.iter().filter(|p| matcher.matches_or_parent_matches(p).expect("good")).count());
    });
    let mut parent = MatchInfo::default();
    for dir in ["src", "src/d1", "src/d1/e1"] {
        let mut next = MatchInfo::default();
        matcher.matches_using_parent_results(dir, &parent, Some(&mut next)).expect("good");
        parent = next;
    }
    c.bench_function("10k paths, 20 patterns, walking", |b| {
        b.iter(|| {
            paths
                .iter()
                .filter(|p| matcher.matches_using_parent_results(p, &parent, None).expect("good"))
                .count()
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
