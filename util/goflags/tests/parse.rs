//! Command lines, as the original's programs take them.

use std::ffi::OsString;

use buildkit_util_goflags::{ProfileFlags, try_parse_from};
use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "prog")]
struct Cli {
    #[arg(long, global = true)]
    debug: bool,
    #[arg(long, global = true, default_value = "none")]
    addr: String,
    #[arg(long)]
    gc: Option<bool>,
    #[command(flatten)]
    profile: ProfileFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(visible_alias = "b")]
    Build(Build),
    Logs {
        #[arg(long)]
        trace: bool,
        reference: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Build {
    #[arg(short, long)]
    filter: Vec<String>,
    #[arg(short, long)]
    verbose: bool,
    #[arg(long)]
    trace: Option<String>,
    rest: Vec<String>,
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    try_parse_from(std::iter::once("prog").chain(line.split_whitespace()).map(OsString::from))
}

fn build(line: &str) -> (Cli, Build) {
    let mut cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    match cli.command.take() {
        Some(Command::Build(build)) => (cli, build),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn switches_take_values() {
    for (line, expect) in [
        ("", false),
        ("--debug", true),
        ("-debug", true),
        ("--debug=T", true),
        ("-debug=1", true),
        ("--debug=false", false),
        ("--debug --debug=F", false),
        ("--debug=false --debug", true),
    ] {
        assert_eq!(parse(line).expect(line).debug, expect, "{line}");
    }
    for (line, expect) in
        [("", None), ("-gc", Some(true)), ("--gc=0", Some(false)), ("--gc=0 -gc", Some(true))]
    {
        assert_eq!(parse(line).expect(line).gc, expect, "{line}");
    }
    for line in ["--debug=yes", "--debug=", "--gc=2", "--debug false", "-d"] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(build("b -v=true").1.verbose);
    assert!(!build("b -v --verbose=false").1.verbose);
}

#[test]
fn the_last_one_counts() {
    assert_eq!(parse("--addr x -addr=y").expect("valid").addr, "y");
    assert_eq!(build("--addr x b --addr y").0.addr, "y");
    assert_eq!(build("--addr x b").0.addr, "x");
    assert_eq!(build("b -f x --filter y -filter=z,z").1.filter, ["x", "y", "z,z"]);
}

#[test]
fn flags_are_those_of_the_command() {
    // What one command takes as a switch wants a value with another.
    let (cli, args) = build("b -trace -addr -addr x");
    assert_eq!((args.trace.as_deref(), cli.addr.as_str()), (Some("-addr"), "x"));
    let Some(Command::Logs { trace: true, reference }) = parse("logs -trace ref").expect("valid").command
    else {
        panic!("not understood");
    };
    assert_eq!(reference.as_deref(), Some("ref"));
}

#[test]
fn values_may_begin_with_dashes() {
    assert_eq!(build("b -f -v --filter --filter").1.filter, ["-v", "--filter"]);
    let (_, args) = build("b - -- -addr -v");
    assert_eq!((args.rest, args.verbose), (["-", "-addr", "-v"].map(String::from).to_vec(), false));
    assert!(parse("b -nope").is_err());
}

#[test]
fn profiles_are_taken_and_refused_politely() {
    assert!(parse("").expect("valid").profile.warning().is_none());
    assert!(build("b --profile-cpu dir").0.profile.warning().is_some());
    assert!(parse("-profile-memoryrate=5").expect("valid").profile.warning().is_some());
    assert!(parse("--profile-memoryrate five").is_err());
}

#[test]
fn help_is_not_an_error_of_usage() {
    for line in ["--help", "-help", "b -h", "help b"] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{line}");
    }
}
