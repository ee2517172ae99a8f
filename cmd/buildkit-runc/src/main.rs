//! The container runtime of the build daemon.
//!
//! It is [`buildkit_executor_runtime::main`] as a program.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let status = buildkit_executor_runtime::main(std::env::args_os().skip(1));
    std::process::ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}
