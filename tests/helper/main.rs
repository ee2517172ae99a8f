//! End-to-end tests of the daemon through its clients.
//!
//! This program does in their steps what busybox cannot: `step-helper exchange A B` swaps two names without end,
//! `step-helper socket PATH` makes a socket.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use rustix::fs::{CWD, RenameFlags, renameat_with};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["exchange", first, second] => {
            // Atomic: each name is there at any moment, and nobody can tell which of the two it is.
            while renameat_with(CWD, *first, CWD, *second, RenameFlags::EXCHANGE).is_ok() {}
            ExitCode::FAILURE
        }
        ["socket", path] => match std::os::unix::net::UnixListener::bind(path) {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        _ => ExitCode::from(2),
    }
}
