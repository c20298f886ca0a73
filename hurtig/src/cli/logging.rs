//! Logs go to standard error; what they contain is set by `HURTIG_LOG` (or `RUST_LOG`).

use tracing_subscriber::EnvFilter;

/// For commands whose errors are their answer: what the parts of an embedded cluster say of them
/// besides would only repeat it.
pub const QUIET: &str = "error,hurtig::cli=warn";

/// Installs the subscriber of this process. `default` is the level without an environment variable.
pub fn install(default: &str, json: bool) {
    let directives = std::env::var("HURTIG_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let filter = EnvFilter::new(directives.as_deref().unwrap_or(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    // A subscriber can be installed once; a second attempt changes nothing.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
