//! The graph that builds this project, with cloning apart from compiling.
//!
//! Sources are cloned on a small image while tools are installed on others, so both happen at the
//! same time, and a new tool does not clone again.
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
    let rust = image("docker.io/library/rust:1-bookworm").state();
    let source = with_clone(&rust, &cli.repo, &cli.buildkit);
    let name = cli.target.daemon();
    let daemon = source.run().shlex(&format!("cargo build --locked --release --bin {name}")).root();
    let client = source.run().shlex("cargo build --locked --release --bin buildctl").root();
    let mut files = FileActions::new()
        .then(copy(&daemon, &format!("/src/target/release/{name}"), "/bin/"))
        .then(copy(&client, "/src/target/release/buildctl", "/bin/"));
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

/// The tools with a clone in `/src`, which is made on an image of its own.
fn with_clone(tools: &State, repo: &str, version: &str) -> State {
    let clone = image("docker.io/library/alpine")
        .state()
        .run()
        .shlex("apk add --no-cache git")
        .root()
        .run()
        .shlex(&format!("git clone {repo} /src"))
        .root()
        .dir("/src")
        .run()
        .shlex(&format!("git checkout -q {version}"))
        .custom_name(&format!("{repo} {version}"))
        .root();
    tools.file(copy(&clone, "/src", "/src")).dir("/src")
}

fn runc(version: &str) -> State {
    with_clone(&go_tools("libseccomp-dev"), "https://github.com/opencontainers/runc.git", version)
        .run()
        .shlex("make static")
        .root()
}

fn containerd(version: &str) -> State {
    with_clone(&go_tools("libbtrfs-dev"), "https://github.com/containerd/containerd.git", version)
        .run()
        .shlex("make binaries")
        .root()
}

fn go_tools(package: &str) -> State {
    image("docker.io/library/golang:1-bookworm")
        .state()
        .run()
        .args(["sh", "-c", &format!("apt-get update && apt-get install -y {package}")])
        .root()
}
