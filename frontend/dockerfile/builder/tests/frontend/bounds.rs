//! What hostile Dockerfiles may cost.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fake::{FakeClient, Given};
use buildkit_errdefs::Kind;
use buildkit_frontend_dockerfile_builder::DockerfileFrontend;
use buildkit_frontend_gateway_client::{BuildFunction as _, GatewayResult, RemoteError};
use serde_json::json;

async fn build(given: Given) -> (Arc<FakeClient>, Result<GatewayResult, RemoteError>) {
    let client = FakeClient::new(given);
    let result = DockerfileFrontend.build(client.clone()).await;
    (client, result)
}

async fn build_file(dockerfile: String) -> Result<GatewayResult, RemoteError> {
    build(Given { dockerfile: dockerfile.into(), ..Given::default() }).await.1
}

/// Lines for each number.
fn lines(numbers: std::ops::Range<u32>, line: impl Fn(u32) -> String) -> String {
    numbers.map(|number| line(number) + "\n").collect()
}

fn assert_too_large(result: Result<GatewayResult, RemoteError>) {
    let error = result.map(|result| result.metadata).expect_err("too large");
    assert_eq!(error.kind, Kind::ResourceExhausted, "{}", error.message);
    assert!(error.message.starts_with("the Dockerfile asks for too much"), "{}", error.message);
}

#[tokio::test]
async fn a4_05_triggers_that_lead_back_to_their_image_end() {
    let image =
        |trigger: &str| json!({"architecture": "amd64", "os": "linux", "config": {"OnBuild": [trigger]}});
    let images = [
        ("docker.io/library/a:latest".to_owned(), image("COPY --from=b x /")),
        ("docker.io/library/b:latest".to_owned(), image("RUN --mount=from=a,target=/m true")),
    ];
    let given = Given { dockerfile: "FROM a\n".into(), images: images.into(), ..Given::default() };
    let (client, result) = build(given).await;
    assert!(result.is_ok(), "{:?}", result.err());
    let mut asked = client.asked.lock().images.clone();
    asked.sort();
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[tokio::test]
async fn a4_05_what_stages_inherit_is_bounded() {
    let ports = lines(1..100, |n| format!("FROM s{} AS s{n}\nLABEL a=b", n - 1));
    assert_too_large(build_file(format!("FROM scratch AS s0\nEXPOSE 0-65535\n{ports}")).await);
    let chain = lines(1..2000, |n| format!("FROM s{} AS s{n}\nENV a{n}=1", n - 1));
    assert_too_large(build_file(format!("FROM scratch AS s0\n{chain}")).await);
    let line = "EXPOSE".to_owned() + &" 0-65535".repeat(5000);
    assert_too_large(build_file(format!("FROM scratch\n{line}\n")).await);
    let triggers = format!(
        "FROM scratch AS s\n{}",
        lines(0..3000, |n| format!("ONBUILD LABEL a{n}={}", "x".repeat(1000)))
    );
    let stages = lines(0..40, |n| format!("FROM s AS t{n}"));
    let target = lines(0..40, |n| format!("COPY --from=t{n} /a /"));
    assert_too_large(build_file(format!("{triggers}{stages}FROM scratch\n{target}")).await);
}

#[tokio::test]
async fn a4_05_what_steps_inherit_is_bounded() {
    let steps = lines(0..6000, |_| "RUN x".to_owned());
    assert_too_large(build_file(format!("FROM scratch\nARG a={}\n{steps}", "x".repeat(60_000))).await);
    assert_too_large(build_file(format!("FROM scratch\nENV a={}\n{steps}", "x".repeat(60_000))).await);
    let variables = lines(0..2000, |n| format!("ENV a{n}=1"));
    assert_too_large(build_file(format!("FROM scratch\n{variables}{steps}")).await);
    let hosts = lines(0..5000, |n| format!("h{n}=10.0.0.1")).trim_end().replace('\n', ",");
    let opts = BTreeMap::from([("add-hosts".to_owned(), hosts)]);
    let given = Given { dockerfile: format!("FROM scratch\n{steps}").into(), opts, ..Given::default() };
    assert_too_large(build(given).await.1);
}

#[tokio::test]
async fn a4_05_long_files_are_built_or_refused() {
    // Each stage needs the next one.
    let stages = lines(0..10_000, |n| format!("FROM scratch AS s{n}\nCOPY --from=s{} /a /", n + 1));
    let error = build_file(format!("{stages}FROM s0 AS s10000\n"))
        .await
        .map(|it| it.metadata)
        .expect_err("out of order");
    assert!(error.message.contains("cannot copy from stage"), "{}", error.message);
    // Many arguments, and stages that name others in vain.
    let args = lines(0..10_000, |n| format!("ARG some_name_{n}=1"));
    let stages = lines(0..5_000, |n| format!("FROM ${{other_name_{n}:-scratch}} AS s{n}"));
    assert!(build_file(format!("{args}{stages}")).await.is_ok());
    let sources = lines(0..5_000, |n| format!("FROM scratch AS s{n}"));
    let copies = lines(0..5_000, |n| format!("COPY --from=s{n} /a /"));
    assert!(build_file(format!("{sources}FROM scratch\n{copies}")).await.is_ok());
    let variables = format!("ENV{}\n", (0..8000).map(|n| format!(" a{n}=1")).collect::<String>());
    assert!(build_file(format!("FROM scratch\n{}", variables.repeat(5))).await.is_ok());
}

#[tokio::test]
async fn a4_05_names_are_not_compared_without_end() {
    let (a, b) = ("x".repeat(30_000), "x".repeat(30_001));
    let uses = lines(0..200, |n| format!("LABEL l=${b}{n}"));
    assert!(build_file(format!("FROM scratch\nENV {a}=1\n{uses}")).await.is_ok());
    let known = lines(0..2000, |n| format!("ARG some_name_{n}=1"));
    let uses = (0..2000).map(|n| format!(" $some_name{n}")).collect::<String>();
    assert!(build_file(format!("FROM scratch\n{known}LABEL a=\"{uses}\"\n")).await.is_ok());
}

#[tokio::test]
async fn warnings_are_as_many_as_anybody_reads() {
    let stages = lines(0..3000, |n| format!("FROM scratch as s{n}"));
    let (client, result) = build(Given { dockerfile: stages.into(), ..Given::default() }).await;
    assert!(result.is_ok());
    let asked = client.asked.lock();
    assert_eq!(asked.warnings.len(), 1001);
    let last = asked.warnings.last().expect("a warning");
    assert_eq!(last.short, "2000 more warnings are not shown");
    assert_eq!(last.vertex, asked.warnings[0].vertex);
}

#[tokio::test]
async fn a4_05_platforms_are_counted() {
    let platforms =
        |count: usize| BTreeMap::from([("platform".to_owned(), vec!["linux/arm64"; count].join(","))]);
    let given =
        |count| Given { dockerfile: "FROM scratch\n".into(), opts: platforms(count), ..Given::default() };
    assert!(build(given(100)).await.1.is_ok());
    let error = build(given(100_000)).await.1.map(|it| it.metadata).expect_err("too many");
    assert_eq!(error.message, "100000 target platforms are asked for, at most 100 are built at once");
    // All of them together have as much as one.
    let steps = lines(0..100, |_| "RUN x".to_owned());
    let dockerfile = format!("FROM scratch\nENV a={}\n{steps}", "x".repeat(60_000));
    assert!(build_file(dockerfile.clone()).await.is_ok());
    assert_too_large(build(Given { dockerfile: dockerfile.into(), ..given(100) }).await.1);
}

#[tokio::test]
async fn a4_04_long_circles_are_told_in_short() {
    let padding = "#".repeat(1000) + "\n";
    let stages =
        lines(0..3000, |n| format!("{padding}FROM scratch AS s{n}\nCOPY --from=s{} /a /", (n + 1) % 3000));
    let error = build_file(stages).await.map(|it| it.metadata).expect_err("a circle");
    assert_eq!(error.message.lines().next(), Some("circular dependency detected on stage: s0"));
    let size: usize = error.details.iter().map(|detail| detail.value.len()).sum();
    assert!(!error.details.is_empty() && size < 8 << 20, "{} details of {size} bytes", error.details.len());
}

#[tokio::test]
async fn a4_05_answers_of_the_linter_are_bounded() {
    let opts = BTreeMap::from([("requestid".to_owned(), "frontend.lint".to_owned())]);
    let given = |count| {
        let stages = lines(0..count, |n| format!("FROM scratch as s{n}"));
        Given { dockerfile: stages.into(), opts: opts.clone(), ..Given::default() }
    };
    let result = build(given(5000)).await.1.map_err(|error| error.message).expect("an answer");
    let answer: serde_json::Value = serde_json::from_slice(&result.metadata["result.json"]).expect("JSON");
    assert_eq!(answer["warnings"].as_array().map(Vec::len), Some(5000));
    assert_too_large(build(given(66_000)).await.1);
}
