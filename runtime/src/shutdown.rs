//! When to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Waits until the process is asked to end, by SIGTERM (the kubelet) or SIGINT (a terminal).
///
/// # Errors
/// If the handlers cannot be installed; a caller should then end at once, since it could not be stopped orderly.
pub async fn requested() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
        _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
    }
    Ok(())
}
