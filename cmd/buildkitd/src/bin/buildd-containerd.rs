//! The build daemon with the containerd worker only.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use buildkit_cmd_buildkitd::{WorkerKinds, main as daemon};

fn main() -> ExitCode {
    daemon("buildd-containerd", WorkerKinds { oci: false, containerd: true })
}
