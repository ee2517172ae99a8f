use anyhow::{Context as _, Result, bail};
use buildkit_util_cachedigest::Digest;

use crate::cli::Global;
use crate::connect::connect;

/// Writes a blob of the daemon to standard output, as it is.
pub(crate) async fn run(global: &Global, digest: Option<&str>) -> Result<()> {
    let Some(text) = digest else { bail!("blob digest must be specified") };
    let digest = Digest::parse(text).with_context(|| format!("{text:?} is no digest"))?;
    connect(global).await?.read_blob(&digest, &mut std::io::stdout()).await?;
    Ok(())
}
