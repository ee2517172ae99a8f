//! What can be written on the command line. Names and defaults are the original's.

use std::path::PathBuf;
use std::time::Duration;

use buildkit_util_appdefaults::Defaults;
use buildkit_util_goflags::ProfileFlags;
use buildkit_util_gotext::parse_duration;
use clap::{ArgAction, Args, Parser, Subcommand};

/// Version as `--version` prints it after the program's name.
fn version() -> String {
    let parts = [buildkit_version::PACKAGE, buildkit_version::VERSION, buildkit_version::REVISION];
    parts.join(" ")
}

/// build utility
#[derive(Debug, Parser)]
#[command(name = "buildctl", version = version(), disable_version_flag = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Enable debug output in logs, and show where errors come from
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Address of the daemon: unix://, tcp://, docker-container://, podman-container://,
    /// nerdctl-container://, kube-pod:// or ssh://
    #[arg(long, global = true, env = "BUILDKIT_HOST", default_value_t = Defaults::detect().address)]
    pub(crate) addr: String,
    /// Format of logs: json or text
    #[arg(long, global = true, default_value = "text")]
    pub(crate) log_format: String,
    /// Name that the daemon's certificate must have; by default the address's host
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    pub(crate) tlsservername: String,
    /// Certificate of the authority that vouches for the daemon
    #[arg(long, global = true)]
    pub(crate) tlscacert: Option<PathBuf>,
    /// Certificate of this client
    #[arg(long, global = true)]
    pub(crate) tlscert: Option<PathBuf>,
    /// Key of this client
    #[arg(long, global = true)]
    pub(crate) tlskey: Option<PathBuf>,
    /// Directory with the certificates and the key: (ca.pem, cert.pem, key.pem) or (ca.crt, tls.crt,
    /// tls.key)
    #[arg(long, global = true)]
    pub(crate) tlsdir: Option<PathBuf>,
    /// Seconds after which connecting is given up
    #[arg(long, global = true, default_value_t = 5)]
    pub(crate) timeout: u64,
    /// Wait until the daemon answers
    #[arg(long, global = true)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,
    /// Print version
    #[arg(short, long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// disk usage
    Du(DiskUsage),
    /// clean up build cache
    Prune(Prune),
    /// clean up build histories
    PruneHistories(Format),
    /// build
    #[command(visible_alias = "b")]
    Build(Box<Build>),
    /// debug utilities
    Debug(Debug),
    /// Connect standard input and output with the daemon
    #[command(hide = true)]
    DialStdio,
    /// Print the completion script of a shell: bash, fish, pwsh or zsh
    #[command(hide = true)]
    Completion {
        /// Shell
        shell: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Define exports for build result, e.g. --output type=image,name=docker.io/username/image,push=true
    #[arg(short, long, value_name = "type=TYPE,KEY=VALUE")]
    pub(crate) output: Vec<String>,
    /// Set type of progress (auto, plain, tty, quiet, rawjson). Use plain to show container output
    #[arg(long, default_value = "auto")]
    pub(crate) progress: String,
    /// Path to trace file, to which a line of JSON is appended for each progress message
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Allow build access to the local directory
    #[arg(long, value_name = "NAME=DIR")]
    pub(crate) local: Vec<String>,
    /// Allow build access to the local OCI layout
    #[arg(long, value_name = "ID=DIR")]
    pub(crate) oci_layout: Vec<String>,
    /// Define frontend used for build; without it a definition is read from standard input, or if none comes, the
    /// Dockerfile of the folder is built
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) frontend: String,
    /// Define custom options for frontend, e.g. --opt target=foo --opt build-arg:foo=bar
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) opt: Vec<String>,
    /// Disable cache for all the vertices
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Export build cache, e.g. --export-cache type=registry,ref=example.com/foo/bar, or
    /// --export-cache type=local,dest=path/to/dir
    #[arg(long, value_name = "type=TYPE,KEY=VALUE")]
    pub(crate) export_cache: Vec<String>,
    /// Import build cache, e.g. --import-cache type=registry,ref=example.com/foo/bar, or
    /// --import-cache type=local,src=path/to/dir
    #[arg(long, value_name = "type=TYPE,KEY=VALUE")]
    pub(crate) import_cache: Vec<String>,
    /// Secret value exposed to the build. Format id=secretname,src=filepath
    #[arg(long, value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub(crate) secret: Vec<String>,
    /// Allow extra privileged entitlement, e.g. network.host, security.insecure, device
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    #[arg(
        long,
        value_name = "ID[=SOCKET|KEY]",
        help = "Allow forwarding SSH agent or a raw Unix socket to the builder. Format \
                default|<id>[=<socket>[,raw=false]|<key>[,<key>]]"
    )]
    pub(crate) ssh: Vec<String>,
    /// Output build metadata (e.g., image digest) to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Read source policy file from a JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) source_policy_file: Option<PathBuf>,
    /// Run build with proxy network enforcement
    #[arg(long)]
    pub(crate) proxy_network: bool,
    /// Write build ref to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) ref_file: Option<PathBuf>,
    /// Overwrite TLS configuration when authenticating with registries, e.g.
    /// --registry-auth-tlscontext host=https://myserver:2376,insecure=false,ca=ca.crt,cert=cert.crt,key=key.crt
    #[arg(long, value_name = "host=HOST,KEY=VALUE")]
    pub(crate) registry_auth_tlscontext: Vec<String>,
    /// Where to output json cache metrics, use 'stdout' or 'stderr' for standard (error) output
    #[arg(long, value_name = "FILE")]
    pub(crate) debug_json_cache_metrics: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Format the output using the given Go template, e.g. '{{json .}}'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DiskUsage {
    #[command(flatten)]
    pub(crate) records: Records,
}

/// Flags of commands that list records.
#[derive(Debug, Args)]
pub(crate) struct Records {
    /// Filter records
    #[arg(short, long)]
    pub(crate) filter: Vec<String>,
    /// Verbose output
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// A duration that is not negative.
fn duration(text: &str) -> Result<Duration, String> {
    let nanos = parse_duration(text).map_err(|error| error.to_string())?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| format!("invalid duration {text:?}"))
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Keep data newer than this limit, e.g. 24h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) keep_duration: Option<Duration>,
    /// Keep data below this limit (in MB)
    #[arg(long, value_name = "MB", default_value_t = 0.0, hide_default_value = true)]
    pub(crate) keep_storage: f64,
    /// Always allow data above this limit (in MB)
    #[arg(long, value_name = "MB", default_value_t = 0.0, hide_default_value = true)]
    pub(crate) keep_storage_min: f64,
    /// Keep free data below this limit (in MB)
    #[arg(long, value_name = "MB", default_value_t = 0.0, hide_default_value = true)]
    pub(crate) free_storage: f64,
    /// Include internal/frontend references
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) records: Records,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Debug {
    #[command(subcommand)]
    pub(crate) command: DebugCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Dump LLB in human-readable format. LLB can be also passed via stdin. This command does not
    /// require the daemon to be running
    DumpLlb(DumpLlb),
    /// Dump the meta in human-readable format. This command requires the daemon NOT to be running
    DumpMetadata {
        /// Path to state directory
        #[arg(long)]
        root: Option<PathBuf>,
    },
    /// List workers
    Workers(Records),
    /// Display internal information
    Info(Format),
    /// Display build events
    Monitor(Monitor),
    /// Display build logs
    Logs(Logs),
    /// Control build records
    Ctl(Ctl),
    /// Retrieve a blob from contentstore
    Get {
        /// Digest of the blob
        digest: Option<String>,
    },
    /// List build records
    Histories(Format),
}

#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// Show completed builds
    #[arg(long)]
    pub(crate) completed: bool,
    /// Show events for a specific build
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) r#ref: String,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Build to show
    pub(crate) reference: Option<String>,
    /// Progress output type
    #[arg(long, default_value = "auto")]
    pub(crate) progress: String,
    /// Show opentelemetry trace
    #[arg(long)]
    pub(crate) trace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ctl {
    /// Build whose record to change
    pub(crate) reference: Option<String>,
    /// Pin build so it will not be garbage collected
    #[arg(long)]
    pub(crate) pin: bool,
    /// Unpin build so it will be garbage collected
    #[arg(long)]
    pub(crate) unpin: bool,
    /// Delete build record
    #[arg(long)]
    pub(crate) delete: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DumpLlb {
    /// File to read; `-` or nothing is standard input
    #[arg(value_name = "llbfile")]
    pub(crate) file: Option<PathBuf>,
    /// Output dot format
    #[arg(long)]
    pub(crate) dot: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_line_of_help() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn flags_are_taken_as_the_original_takes_them() {
        let line = "buildctl -addr a --wait=true b -no-cache=F --addr c --local x=1,2 -local y --progress p --progress q";
        let cli: Cli =
            buildkit_util_goflags::try_parse_from(line.split(' ').map(Into::into)).expect("it is valid");
        let Command::Build(build) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!((cli.global.addr.as_str(), cli.global.wait), ("c", true));
        assert_eq!((build.progress.as_str(), build.no_cache), ("q", false));
        assert_eq!(build.local, ["x=1,2", "y"]);
    }
}
