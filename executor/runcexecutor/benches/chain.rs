//! Cost of a chain of 30 trivial containers with our runtime, against the same chain of bare runtimes.
//!
//! Budget: our runtime takes a quarter of what runc takes, and the executor 15 ms per step above it. Needs root and runc;
//! prints all times per step. Processors that are busy with something else make the waits for the kernel longer.

#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

#[path = "../tests/common/mod.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod common;

use std::time::{Duration, Instant};

use common::{Fixture, Runtime, sh};

const STEPS: u32 = 30;

/// The configuration that the executor made for a container, for the bare runtime.
async fn bundle(fixture: &Fixture) -> std::path::PathBuf {
    let (request, stdout, _) = common::request(fixture.root(), sh("echo go; sleep 1000"), vec![]);
    let (id, cancel) = (request.id.clone(), request.cancel.clone());
    let bundle = fixture.path("bare");
    std::fs::create_dir(&bundle).expect("bundle");
    let copy = async {
        stdout.wait_for("go").await;
        let config = fixture.path("executor/run/containers").join(id).join("config.json");
        let config = std::fs::read_to_string(config).expect("configuration");
        std::fs::write(bundle.join("config.json"), config.replace("echo go; sleep 1000", "true"))
            .expect("copy");
        cancel.cancel();
    };
    let (_, ()) = tokio::join!(buildkit_executor::Executor::run(&fixture.executor, request), copy);
    bundle
}

/// The time that a bare runtime takes for a container.
fn bare(runtime: &std::path::Path, bundle: &std::path::Path, state: &std::path::Path, step: u32) -> Duration {
    let start = Instant::now();
    let status = std::process::Command::new(runtime)
        .arg("--root")
        .arg(state)
        .args(["run", "--bundle"])
        .arg(bundle)
        .arg(format!("bare{}x{step}", std::process::id()))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.expect("the runtime starts").success());
    start.elapsed()
}

#[tokio::main]
async fn main() {
    let fixture = Fixture::new(Runtime::Own).await;
    let bundle = bundle(&fixture).await;
    let state = fixture.path("bare-state");
    let own = buildkit_util_testutil::binary("buildkit-runc");
    let (mut runc, mut bare_own, mut ours) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for step in 0..STEPS {
        runc += bare("runc".as_ref(), &bundle, &state, step);
        bare_own += bare(&own, &bundle, &state, step);
        let start = Instant::now();
        let out = fixture.run(sh("true")).await;
        assert_eq!(out.exit.code, 0);
        ours += start.elapsed();
    }
    let [runc, bare_own, ours] = [runc, bare_own, ours].map(|time| time / STEPS);
    println!("per step: bare runc {runc:?}; bare buildkit-runc {bare_own:?}; executor {ours:?}");
}
