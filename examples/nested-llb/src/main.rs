//! A graph whose steps write the graph that is built.
//!
//! A step compiles and runs `examples/buildkit2` of this project, whose output is a definition; the
//! daemon reads that file and builds it as a part of this build.
#![forbid(unsafe_code)]

use std::io::Write as _;

use buildkit_client_llb::{
    Constrained as _, Constraints, MarshalOptions, Mount, Platform, git, image, scratch,
};
use clap::Parser;
use prost::Message as _;

/// Writes a definition that builds a definition to standard output.
#[derive(Parser)]
struct Cli {
    /// Repository of this project.
    #[arg(long, default_value = "https://git.example.org/buildkit.git")]
    repo: String,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    revision: String,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let source = git(&cli.repo, &cli.revision).state();
    let written = image("docker.io/library/rust:1-bookworm")
        .state()
        .dir("/src")
        .run()
        .args(["sh", "-c", "cargo run --locked -p example-buildkit2 > /out/buildkit.llb.definition"])
        .env("CARGO_TARGET_DIR", "/target")
        .mount("/src", Mount::bind(&source).readonly())
        .mount("/target", Mount::scratch())
        .mount("/out", Mount::scratch())
        .custom_name("write the graph")
        .done()
        .mount("/out")?;
    let built = written.build("", Constraints::new().custom_name("build the graph"));
    let listed = image("docker.io/library/busybox")
        .state()
        .run()
        .shlex("ls -l /out")
        .mount("/out", Mount::bind(&built).readonly())
        .done();
    let result = scratch().file(buildkit_client_llb::copy(&built, "/", "/").contents_only());
    let result = result.requires("listed", [&listed.root()]);
    let options = MarshalOptions::new().platform(Platform::new("linux", "amd64"));
    std::io::stdout().write_all(&result.marshal(&options)?.encode_to_vec())?;
    Ok(())
}
