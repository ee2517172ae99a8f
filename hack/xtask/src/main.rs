//! Development tasks: code generation and repository checks.
#![forbid(unsafe_code)]

mod codegen;
mod schema;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// `cargo xtask <task>`, run from anywhere in the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of this repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the Rust code of the messages and services in `api/proto`
    Codegen {
        /// Change nothing; fail when a committed file is not what would be written
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    let root = root()?;
    match Cli::parse().task {
        Task::Codegen { check } => codegen::run(&root, check),
    }
}

/// The repository that this program was built from.
fn root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .map(PathBuf::from)
        .with_context(|| format!("`{}` has no repository above it", here.display()))
}
