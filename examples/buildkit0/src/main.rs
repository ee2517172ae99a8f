//! The graph that builds this project, one exec per component.
//!
//! The simplest style: every component is cloned and compiled by one process on a tool image, and
//! the programs are copied into a small image. Components do not wait for each other.
#![forbid(unsafe_code)]

use std::io::Write as _;

use buildkit_client_llb::{Constrained as _, FileActions, MarshalOptions, Platform, State, copy, image};
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
    let programs = buildkit(&cli.repo, &cli.buildkit);
    let daemon = format!("/src/target/release/{}", cli.target.daemon());
    let mut files = FileActions::new().then(copy(&programs, &daemon, "/bin/")).then(copy(
        &programs,
        "/src/target/release/buildctl",
        "/bin/",
    ));
    files = match cli.target {
        Target::Standalone => files.then(copy(runc(&cli.runc), "/src/runc", "/bin/")),
        Target::Containerd => {
            files.then(copy(containerd(&cli.containerd), "/src/bin/*", "/bin/").allow_wildcard())
        }
    };
    let result = image("docker.io/library/alpine").state().file(files);
    let listed = result.run().shlex("ls -l /bin").root();
    let options = MarshalOptions::new().platform(Platform::new("linux", "amd64"));
    std::io::stdout().write_all(&listed.marshal(&options)?.encode_to_vec())?;
    Ok(())
}

/// Clones a repository to `/src` and runs a command there, all in one process.
fn clone_and_run(tools: &State, repo: &str, version: &str, command: &str) -> State {
    let script = format!("git clone {repo} /src && cd /src && git checkout -q {version} && {command}");
    tools.run().args(["sh", "-ec", &script]).custom_name(&format!("{repo} {version}")).root()
}

fn buildkit(repo: &str, version: &str) -> State {
    let tools = image("docker.io/library/rust:1-bookworm").state();
    clone_and_run(&tools, repo, version, "cargo build --locked --release")
}

fn runc(version: &str) -> State {
    let tools = go_tools("libseccomp-dev");
    clone_and_run(&tools, "https://github.com/opencontainers/runc.git", version, "make static")
}

fn containerd(version: &str) -> State {
    let tools = go_tools("libbtrfs-dev");
    clone_and_run(&tools, "https://github.com/containerd/containerd.git", version, "make binaries")
}

fn go_tools(package: &str) -> State {
    image("docker.io/library/golang:1-bookworm")
        .state()
        .run()
        .args(["sh", "-c", &format!("apt-get update && apt-get install -y {package}")])
        .root()
}
