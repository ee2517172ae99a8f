//! Cost of a chain of 30 trivial containers, against the same chain of bare `runc run`.
//!
//! Budget: 15 ms per step above the bare runtime. Needs root; prints both times per step.

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

#[tokio::main]
async fn main() {
    let fixture = Fixture::new(Runtime::Own).await;
    let bundle = bundle(&fixture).await;
    let (mut bare, mut ours) = (Duration::ZERO, Duration::ZERO);
    for step in 0..STEPS {
        let start = Instant::now();
        let status = std::process::Command::new("runc")
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(format!("bare{}x{step}", std::process::id()))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.expect("runc").success());
        bare += start.elapsed();
        let start = Instant::now();
        let out = fixture.run(sh("true")).await;
        assert_eq!(out.exit.code, 0);
        ours += start.elapsed();
    }
    println!("bare runc run: {:?} per step; executor: {:?} per step", bare / STEPS, ours / STEPS);
}
