use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use buildkit_client::{Address, Client, Tls};
use buildkit_errdefs::Classify as _;
use buildkit_util_appdefaults::Defaults;

use crate::cli::Global;

/// The daemon's address; an empty one is the default.
pub(crate) fn address(global: &Global) -> Result<Address> {
    let text = if global.addr.is_empty() { &Defaults::detect().address } else { &global.addr };
    Ok(text.parse()?)
}

/// Connects to the daemon that the flags name.
pub(crate) async fn connect(global: &Global) -> Result<Client> {
    let address = address(global)?;
    let tls = tls(global, &address)?;
    let connecting = async {
        if !global.wait {
            return Ok(Client::connect(&address, tls.as_ref()).await?);
        }
        // Until the daemon listens there is nothing to connect to.
        loop {
            match Client::connect(&address, tls.as_ref()).await {
                Ok(client) => {
                    client.wait().await?;
                    return Ok(client);
                }
                Err(error) if !is_starting(&error) => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(%error, "the daemon does not answer yet");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    };
    if global.timeout == 0 {
        return connecting.await;
    }
    tokio::time::timeout(Duration::from_secs(global.timeout), connecting).await.unwrap_or_else(|_| {
        Err(anyhow!(
            "failed to dial {:?} . make sure buildkitd is running: context deadline exceeded",
            global.addr
        ))
    })
}

/// Whether the daemon may just not be up yet.
fn is_starting(error: &buildkit_client::Error) -> bool {
    error.kind().is_transient()
}

fn tls(global: &Global, address: &Address) -> Result<Option<Tls>> {
    let (ca, cert, key) = match &global.tlsdir {
        Some(_) if global.tlscacert.is_some() || global.tlscert.is_some() || global.tlskey.is_some() => {
            bail!("cannot specify tlsdir and tlscacert/tlscert/tlskey at the same time");
        }
        Some(dir) => {
            let [ca, cert, key] = Tls::files_in(dir)?;
            (Some(ca), Some(cert), Some(key))
        }
        None => (global.tlscacert.clone(), global.tlscert.clone(), global.tlskey.clone()),
    };
    if ca.is_none() && cert.is_none() && key.is_none() {
        return Ok(None);
    }
    let identity = match (&cert, &key) {
        (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
        (None, None) => None,
        _ => bail!("a client certificate needs --tlscert and --tlskey"),
    };
    let name = match global.tlsservername.as_str() {
        "" => address.host(),
        name => name,
    };
    let tls = Tls::new(ca.as_deref(), identity, Some(name)).context("could not set up TLS")?;
    Ok(Some(tls))
}
