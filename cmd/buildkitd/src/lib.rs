//! The build daemon: reads its settings, opens the stores, wires everything and serves.
//!
//! A library only so that several binaries can be built of it: `buildkitd` with every kind of worker,
//! `buildd-standalone` and `buildd-containerd` with one kind each.
#![deny(unsafe_code)]

mod daemon;
mod flags;
mod listen;
mod lock;
mod logging;
mod settings;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use crate::flags::Flags;

/// Kinds of workers that a binary has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerKinds {
    /// The OCI worker.
    pub oci: bool,
    /// The containerd worker.
    pub containerd: bool,
}

/// First argument of a process that only checks the database in the directory that follows.
pub(crate) const PROBE_ARGUMENT: &str = "metadata-probe";

/// How long tasks may take to end after all builds have.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Runs a daemon named `name` to its end.
pub fn main(name: &str, kinds: WorkerKinds) -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(first), Some(directory)) = (arguments.next(), arguments.next())
        && first == PROBE_ARGUMENT
    {
        // A database that hangs or crashes its reader does so in a process of its own.
        return match buildkit_cache_metadata::probe(directory.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let flags: Flags =
        buildkit_util_goflags::try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit());
    if flags.version {
        #[expect(clippy::print_stdout, reason = "this is what was asked for")]
        {
            println!(
                "{name} {} {} {}",
                buildkit_version::PACKAGE,
                buildkit_version::VERSION,
                buildkit_version::REVISION
            );
        }
        return ExitCode::SUCCESS;
    }
    match run(&flags, kinds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "logging may not work yet")]
            {
                eprintln!("{name}: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, kinds: WorkerKinds) -> anyhow::Result<()> {
    let settings = settings::resolve(flags)?;
    logging::start(&settings.config)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    // Modes that builds and clients ask for are meant as they are.
    rustix::process::umask(rustix::fs::Mode::empty());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("buildkitd").build()?;
    let result = runtime.block_on(daemon::run(settings, kinds));
    // Tasks let go of what they hold: mounts end with their owners. What is blocked in the kernel must not
    // keep the process.
    runtime.shutdown_timeout(SHUTDOWN);
    result
}
