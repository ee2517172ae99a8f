use anyhow::{Context as _, Result, bail};
use buildkit_api_services_control::BuildHistoryRequest;
use buildkit_client::Client;
use buildkit_util_appcontext as tasks;
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress_progressui::{Display, Mode, Settings, Terminal};
use tokio::sync::mpsc;

use crate::cli::{Global, Logs};
use crate::connect::connect;

/// Messages that may wait to be shown.
const QUEUE: usize = 64;

/// Shows the progress of a build again, or writes its trace to standard output.
pub(crate) async fn run(global: &Global, args: &Logs) -> Result<()> {
    let Some(reference) = &args.reference else { bail!("build ref must be specified") };
    let mode: Mode = args.progress.parse()?;
    let client = connect(global).await?;
    if args.trace {
        return trace(&client, reference).await;
    }
    let (settings, problems) = Settings::from_env();
    for problem in problems {
        tracing::warn!("{problem}");
    }
    let stdout = std::io::stdout();
    let terminal = Terminal::of(&stdout);
    let display = Display::new(stdout, terminal, mode, "Building", settings)?;
    let (sender, shown) = mpsc::channel(QUEUE);
    let display = tasks::spawn(display.run(shown));
    let read = client.status(reference, sender).await;
    display.await.context("progress was lost")??;
    Ok(read?)
}

async fn trace(client: &Client, reference: &str) -> Result<()> {
    // A record that does not exist is not waited for, as the original does.
    let request = BuildHistoryRequest {
        r#ref: reference.to_owned(),
        early_exit: true,
        ..BuildHistoryRequest::default()
    };
    let mut events = client.build_history(request).await?;
    let record = events.next().await?.and_then(|event| event.record);
    let record = record.with_context(|| format!("ref {reference} not found"))?;
    let trace = record.trace.with_context(|| format!("ref {reference} does not have trace"))?;
    let digest = Digest::parse(&trace.digest).with_context(|| format!("{:?} is no digest", trace.digest))?;
    client.read_blob(&digest, &mut std::io::stdout()).await?;
    Ok(())
}
