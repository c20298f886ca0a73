//! Signals that end a command.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for the signal to end, and names it.
pub async fn interrupted() -> anyhow::Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
