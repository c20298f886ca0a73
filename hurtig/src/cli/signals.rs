//! Signals that end a command.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for the signal to end, and names it.
pub async fn interrupted() -> anyhow::Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Who started the command with `nohup` wants it to outlive the terminal.
    let mut hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    let hung_up = async {
        match &mut hangup {
            Some(hangup) => drop(hangup.recv().await),
            None => std::future::pending().await,
        }
    };
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = hung_up => "SIGHUP",
    })
}

/// Whether the process was started with SIGHUP ignored.
fn hangup_is_ignored() -> bool {
    ignores_hangup(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// Signal 1 is the lowest bit of the mask in hexadecimal digits.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen() {
        assert!(ignores_hangup("Name:\thurtig\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("Name:\thurtig\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
    }
}
