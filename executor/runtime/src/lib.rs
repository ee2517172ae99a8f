//! Starts the process of a container as an OCI bundle describes it.
//!
//! A build starts a container for each step, so that a start is to cost little: this one makes no copy of itself, starts
//! no second program, compiles filters of system calls itself, and takes a sixth of the processor time of runc. It does
//! for that a part of what runc does: containers in the foreground, run by root, with the parts of the configuration that
//! [`config`] has. Everything else is refused with a message, never passed over.
//!
//! Images, and those who run in other containers with the same cache directories, are not trusted: mounts are moved onto
//! descriptors of places that were found inside the root (`openat2`, the mount calls of Linux 5.2 and 5.12), no
//! descriptor leads out, and nobody can look into the process before it is the program. It needs Linux 5.12.
//!
//! The binary is `cmd/buildkit-runc`, which is [`main`] and nothing else. Source of the behaviour: the OCI Runtime
//! Specification 1.0.2 (`config.md`, `config-linux.md`), and runc where that leaves it open.
#![deny(unsafe_code)]

mod args;
mod channel;
pub mod config;
mod container;
mod error;
mod options;
mod privileges;
mod program;
mod resources;
mod rootfs;
mod state;
mod sys;
mod terminal;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

use fs_err as fs;

pub use crate::container::{Exec, Run, exec, run};
pub use crate::error::Error;

use crate::args::{Command, Log, USAGE};

/// The whole program: reads the words of a command line, does what they say, and returns the exit status.
///
/// It executes itself once more, from a copy in memory, unless it is such a copy already: nothing in a container can
/// change that.
pub fn main(words: impl Iterator<Item = OsString>) -> i32 {
    let words: Vec<OsString> = words.collect();
    let (log, command) = args::parse(words.iter().cloned());
    let starts = matches!(command, Ok(Command::Run(_) | Command::Exec(_)));
    if starts && let Err(error) = become_sealed(&words) {
        tell(&log, &format!("start failed: copy the runtime into memory: {error}"));
        return 1;
    }
    let (action, result) = match command {
        Ok(Command::Help) => return print(USAGE),
        Ok(Command::Version) => {
            return print(concat!("buildkit-runc version ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Ok(Command::Run(options)) => ("run", run(&options)),
        Ok(Command::Exec(options)) => ("exec", exec(&options)),
        Err(error) => ("start", Err(error)),
    };
    result.unwrap_or_else(|error| {
        tell(&log, &format!("{action} failed: {error}"));
        1
    })
}

/// Returns once this process executes a file that nobody can change.
fn become_sealed(words: &[OsString]) -> std::io::Result<()> {
    const PROGRAM: &str = "/proc/self/exe";
    let mut program = std::fs::File::open(PROGRAM)?;
    if buildkit_util_system::is_sealed(&program) {
        return Ok(());
    }
    let copy = buildkit_util_system::sealed_copy(&mut program, "buildkit-runc")?;
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Err(std::process::Command::new(path).arg0("buildkit-runc").args(words).exec())
}

fn print(text: &str) -> i32 {
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

/// Writes an error where people and programs look for it. If that fails, too, there is nobody left to tell.
fn tell(log: &Log, message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
    let Some(file) = &log.file else { return };
    let line = if log.json {
        serde_json::json!({ "level": "error", "msg": message }).to_string()
    } else {
        message.to_owned()
    };
    if let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(file) {
        let _ = writeln!(file, "{line}");
    }
}
