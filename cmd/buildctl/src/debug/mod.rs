mod ctl;
mod dump_llb;
mod get;
mod info;
mod logs;
mod monitor;
mod workers;

use anyhow::Result;

use crate::cli::{DebugCommand, Global};
use crate::{histories, missing};

pub(crate) async fn run(global: &Global, command: &DebugCommand) -> Result<()> {
    match command {
        DebugCommand::DumpLlb(args) => dump_llb::run(args),
        DebugCommand::Workers(args) => workers::run(global, args).await,
        DebugCommand::Info(args) => info::run(global, args).await,
        DebugCommand::DumpMetadata { .. } => {
            missing::service("debug dump-metadata", "offline reader of the metadata store")
        }
        DebugCommand::Monitor(args) => monitor::run(global, args).await,
        DebugCommand::Logs(args) => logs::run(global, args).await,
        DebugCommand::Ctl(args) => ctl::run(global, args).await,
        DebugCommand::Histories(args) => histories::list(global, args).await,
        DebugCommand::Get { digest } => get::run(global, digest.as_deref()).await,
    }
}
