use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::io::{AsyncWriteExt as _, copy};
use tokio::net::UnixStream;

use crate::cli::Global;
use crate::connect::address;

/// Connects standard input and output with the daemon's socket. The end of the input closes only
/// that direction; the end of the daemon's output ends everything.
pub(crate) async fn run(global: &Global) -> Result<()> {
    let address = address(global)?;
    let socket = address.socket().ok_or_else(|| {
        let scheme = global.addr.split("://").next().unwrap_or_default();
        anyhow!("invalid address {} (expected unix://, got {scheme}://)", global.addr)
    })?;
    let connecting = UnixStream::connect(socket);
    let stream = match global.timeout {
        0 => connecting.await,
        seconds => tokio::time::timeout(Duration::from_secs(seconds), connecting)
            .await
            .with_context(|| format!("failed to dial {:?}", global.addr))?,
    }
    .with_context(|| format!("failed to dial {:?}", global.addr))?;
    let (mut from_daemon, mut to_daemon) = stream.into_split();
    let forward = async {
        copy(&mut tokio::io::stdin(), &mut to_daemon).await.context("stdin to stream")?;
        to_daemon.shutdown().await.context("stdin to stream")?;
        std::future::pending::<Result<()>>().await
    };
    let backward = async {
        let mut stdout = tokio::io::stdout();
        copy(&mut from_daemon, &mut stdout).await.context("stream to stdout")?;
        stdout.flush().await.context("stream to stdout")
    };
    tokio::select! {
        result = forward => result,
        result = backward => result,
    }
}
