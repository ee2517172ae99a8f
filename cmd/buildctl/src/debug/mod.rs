mod dump_llb;
mod get;
mod info;
mod workers;

use anyhow::Result;

use crate::cli::{DebugCommand, Global};
use crate::missing;

pub(crate) async fn run(global: &Global, command: &DebugCommand) -> Result<()> {
    match command {
        DebugCommand::DumpLlb(args) => dump_llb::run(args),
        DebugCommand::Workers(args) => workers::run(global, args).await,
        DebugCommand::Info(args) => info::run(global, args).await,
        DebugCommand::DumpMetadata { .. } => {
            missing::service("debug dump-metadata", "offline reader of the metadata store")
        }
        DebugCommand::Monitor { .. } => missing::history("debug monitor"),
        DebugCommand::Logs { .. } => missing::history("debug logs"),
        DebugCommand::Ctl { .. } => missing::history("debug ctl"),
        DebugCommand::Histories(_) => missing::history("debug histories"),
        DebugCommand::Get { digest } => get::run(global, digest.as_deref()).await,
    }
}
