//! The build daemon with the OCI worker only.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use buildkit_cmd_buildkitd::{WorkerKinds, main as daemon};

fn main() -> ExitCode {
    daemon("buildd-standalone", WorkerKinds { oci: true, containerd: false })
}
