use anyhow::{Result, bail};
use buildkit_api_services_control::UpdateBuildHistoryRequest;

use crate::cli::{Ctl, Global};
use crate::connect::connect;

/// Pins, unpins or deletes the record of a build.
pub(crate) async fn run(global: &Global, args: &Ctl) -> Result<()> {
    let Some(reference) = &args.reference else { bail!("build ref must be specified") };
    match (args.pin, args.unpin, args.delete) {
        (false, false, false) => bail!("must specify one of --pin, --unpin, --delete"),
        (true, true, _) => bail!("cannot specify both --pin and --unpin"),
        (true, _, true) | (_, true, true) => bail!("cannot specify --delete with --pin or --unpin"),
        _ => {}
    }
    let request = UpdateBuildHistoryRequest {
        r#ref: reference.clone(),
        pinned: args.pin,
        delete: args.delete,
        finalize: false,
    };
    connect(global).await?.update_build_history(request).await?;
    Ok(())
}
