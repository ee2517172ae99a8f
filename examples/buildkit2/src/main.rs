//! The graph that builds this project, from git sources.
//!
//! The daemon fetches repositories itself and mounts them where they are compiled; nothing is
//! cloned by processes, and a commit that is known is not fetched again.
#![forbid(unsafe_code)]

use std::io::Write as _;

use buildkit_client_llb::{
    CacheSharing, Constrained as _, Constraints, Error, MarshalOptions, Mount, Platform, State, git, image,
    merge,
};
use clap::{Parser, ValueEnum};
use prost::Message as _;

/// Writes the definition that builds this project to standard output.
#[derive(Parser)]
struct Cli {
    /// What the result is to run with.
    #[arg(long, value_enum, default_value = "containerd")]
    target: Target,
    /// Repository of this project, or of your copy of it.
    #[arg(long, default_value = "https://git.example.org/buildkit.git")]
    repo: String,
    /// Version of this project.
    #[arg(long, default_value = "main")]
    buildkit: String,
    /// Version of runc.
    #[arg(long, default_value = "v1.3.0")]
    runc: String,
    /// Version of containerd.
    #[arg(long, default_value = "v2.1.0")]
    containerd: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// `buildd-standalone` with runc.
    Standalone,
    /// `buildd-containerd` with containerd.
    Containerd,
}

impl Target {
    fn daemon(self) -> &'static str {
        match self {
            Self::Standalone => "buildd-standalone",
            Self::Containerd => "buildd-containerd",
        }
    }
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let mut parts = vec![
        buildkit(&cli.repo, &cli.buildkit, cli.target.daemon())?,
        buildkit(&cli.repo, &cli.buildkit, "buildctl")?,
    ];
    parts.push(match cli.target {
        Target::Standalone => runc(&cli.runc)?,
        Target::Containerd => containerd(&cli.containerd)?,
    });
    let result = merge(&parts, Constraints::new().custom_name("programs"));
    let options = MarshalOptions::new().platform(Platform::new("linux", "amd64"));
    std::io::stdout().write_all(&result.marshal(&options)?.encode_to_vec())?;
    Ok(())
}

fn source(repo: &str, version: &str) -> State {
    git(repo, version).state()
}

/// Runs a command on a source tree and gives what it wrote to `/out`.
fn compile(tools: &State, source: &State, name: &str, script: &str) -> Result<State, Error> {
    tools
        .dir("/src")
        .run()
        .args(["sh", "-ec", script])
        .mount("/src", Mount::bind(source).no_output())
        .mount("/out", Mount::scratch())
        .mount("/cache", Mount::cache(name, CacheSharing::Locked))
        .custom_name(&format!("build {name}"))
        .done()
        .mount("/out")
}

fn buildkit(repo: &str, version: &str, program: &str) -> Result<State, Error> {
    let tools = image("docker.io/library/rust:1-bookworm").state().env("CARGO_TARGET_DIR", "/cache");
    let script =
        format!("cargo build --locked --release --bin {program} && cp /cache/release/{program} /out/");
    compile(&tools, &source(repo, version), program, &script)
}

fn runc(version: &str) -> Result<State, Error> {
    let source = source("https://github.com/opencontainers/runc.git", version);
    let tools = go_tools("libseccomp-dev");
    compile(&tools, &source, "runc", "make static && cp runc /out/")
}

fn containerd(version: &str) -> Result<State, Error> {
    let source = source("https://github.com/containerd/containerd.git", version);
    let tools = go_tools("libbtrfs-dev");
    compile(&tools, &source, "containerd", "make binaries && cp bin/* /out/")
}

fn go_tools(package: &str) -> State {
    image("docker.io/library/golang:1-bookworm")
        .state()
        .env("GOCACHE", "/cache")
        .run()
        .args(["sh", "-c", &format!("apt-get update && apt-get install -y {package}")])
        .root()
}
