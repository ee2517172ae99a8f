//! A graph with parallel steps on a busybox root file system.
//!
//! The root file system is a directory of the client called `rootfs`, with a static busybox and its
//! links in `bin`. It is copied into an empty tree first: from there on everything is known by its
//! content, so a second build runs nothing but the transfer.
#![forbid(unsafe_code)]

use std::io::Write as _;

use buildkit_client_llb::{
    Constrained as _, Constraints, FileActions, MarshalOptions, Mount, State, copy, local, merge, scratch,
};
use clap::Parser;
use prost::Message as _;

/// Writes the definition of a small graph to standard output, for `buildctl build --local rootfs=DIR`.
#[derive(Parser)]
struct Cli {
    /// Number of steps that run side by side.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Seconds that each step pretends to work.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let rootfs = local("rootfs").shared_key_hint("rootfs").custom_name("root file system").state();
    let base = scratch()
        .file(
            FileActions::from(copy(&rootfs, "/", "/").contents_only().create_dest())
                .custom_name("copy root file system"),
        )
        .env("PATH", "/bin");
    let greetings: Vec<State> = (1..=cli.steps.max(1))
        .map(|number| greeting(&base, number, cli.seconds))
        .collect::<Result<_, _>>()?;
    let all = merge(&greetings, Constraints::new().custom_name("put greetings together"));

    let list = base
        .run()
        .args(["/bin/sh", "-c", "cat /in/* > /out/all && ls -l /in"])
        .readonly_root()
        .mount("/in", Mount::bind(&all).readonly())
        .mount("/out", Mount::scratch())
        .custom_name("read greetings")
        .done()
        .mount("/out")?;
    let result = merge(&[all, list], Constraints::new().custom_name("result"));
    let definition = result.marshal(&MarshalOptions::new())?;
    std::io::stdout().write_all(&definition.encode_to_vec())?;
    Ok(())
}

/// The tree with one greeting, made by a process of its own.
fn greeting(base: &State, number: usize, seconds: f64) -> Result<State, buildkit_client_llb::Error> {
    let script = format!(
        "for i in 1 2 3 4 5; do echo step {number}: $i of 5; sleep {}; done; \
         echo hello from step {number} > /out/greeting-{number}",
        seconds / 5.0
    );
    base.run()
        .args(["/bin/sh", "-c", &script])
        .readonly_root()
        .mount("/out", Mount::scratch())
        .custom_name(&format!("greeting {number}"))
        .done()
        .mount("/out")
}
