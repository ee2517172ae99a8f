use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tokens of an orderly end: the first is cancelled by the first SIGINT or SIGTERM, the second by
/// the second one. A third ends the process at once with status 1.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_signals() -> std::io::Result<(CancellationToken, CancellationToken)> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let tokens = [first.clone(), second.clone()];
    crate::detach("signals", async move {
        for token in tokens {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(1);
    });
    Ok((first, second))
}
