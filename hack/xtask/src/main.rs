//! Development tasks: code generation and repository checks.
#![forbid(unsafe_code)]

mod codegen;
mod schema;
mod tidy;
mod workspace;

use std::{path::PathBuf, process::ExitCode};

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
    /// Check layers, the ledger of packages, manifests, sources and unused dependencies
    Tidy,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a task")]
fn report(error: &anyhow::Error) {
    eprintln!("xtask: {error:#}");
}

fn run() -> Result<()> {
    let root = root()?;
    match Cli::parse().task {
        Task::Codegen { check } => codegen::run(&root, check),
        Task::Tidy => tidy::run(&root),
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
