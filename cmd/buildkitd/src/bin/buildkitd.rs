//! The build daemon with every kind of worker.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use buildkit_cmd_buildkitd::{WorkerKinds, main as daemon};

fn main() -> ExitCode {
    daemon("buildkitd", WorkerKinds { oci: true, containerd: true })
}
