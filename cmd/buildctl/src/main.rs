//! The build client.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

mod build;
mod cli;
mod completion;
mod connect;
mod debug;
mod dial_stdio;
mod disk_usage;
mod excerpt;
mod histories;
mod missing;
mod prune;
mod size;
mod template;
mod time;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::CommandFactory as _;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command};

/// Exit code of the original for a command that does not exist.
const NO_SUCH_COMMAND: u8 = 3;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(list) = completion::candidates(&args) {
        print!("{list}");
        return ExitCode::SUCCESS;
    }
    let cli: Cli = match buildkit_util_goflags::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", excerpt::of(&error));
            if cli.global.debug {
                eprintln!("error: {}\n{}", chain(&error), error.backtrace());
            } else {
                eprintln!("error: {}", chain(&error));
            }
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each said once.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Help and version go to standard output and are no failure, nor is asking for nothing.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            print!("{error}");
            ExitCode::SUCCESS
        }
        ErrorKind::MissingSubcommand => {
            print!("{}", Cli::command().render_help());
            ExitCode::SUCCESS
        }
        ErrorKind::InvalidSubcommand => {
            eprint!("{error}");
            ExitCode::from(NO_SUCH_COMMAND)
        }
        _ => {
            eprint!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    start_logging(cli)?;
    if let Some(warning) = cli.global.profile.warning() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("Starting failed")?;
    let result = runtime.block_on(async {
        match &cli.command {
            Command::Build(args) => build::run(&cli.global, args).await,
            Command::Du(args) => disk_usage::run(&cli.global, args).await,
            Command::Prune(args) => prune::run(&cli.global, args).await,
            Command::PruneHistories(args) => histories::prune(&cli.global, args).await,
            Command::Debug(args) => debug::run(&cli.global, &args.command).await,
            Command::DialStdio => dial_stdio::run(&cli.global).await,
            Command::Completion { shell } => completion::script(shell.as_deref()),
        }
    });
    // Reads of standard input that go on must not keep the program.
    runtime.shutdown_background();
    result
}

fn start_logging(cli: &Cli) -> Result<()> {
    let level = if cli.global.debug { "debug" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::new(format!("warn,buildctl={level},buildkit={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.global.log_format.as_str() {
        "json" => builder.json().init(),
        "text" | "" => builder.with_ansi(false).init(),
        other => bail!("unsupported log type {other:?}"),
    }
    Ok(())
}
