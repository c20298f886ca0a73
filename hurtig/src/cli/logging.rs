//! Logs go to standard error. What they contain is set by `HURTIG_LOG` (or `RUST_LOG`), their format
//! by `--log-format`, `HURTIG_LOG_FORMAT` or `hurtig.log.format`, in this order.
//!
//! As JSON each line is one object: `timestamp`, `level`, `target`, `message`, the fields of the event,
//! and under `span` what it is about: `job`, `vertex`, `subtask`, `attempt`, `checkpoint`.

use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// For commands whose errors are their answer: what the parts of an embedded cluster say of them
/// besides would only repeat it.
pub const QUIET: &str = "error,hurtig::cli=warn";

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What the command line says.
static CHOSEN: OnceLock<Option<LogFormat>> = OnceLock::new();

/// Remembers the choice of the command line.
pub fn choose(format: Option<LogFormat>) {
    // Said once, before the command runs.
    let _ = CHOSEN.set(format);
}

/// The format: of the command line, else of the environment, else `configured`.
fn format(configured: LogFormat) -> LogFormat {
    let named = std::env::var("HURTIG_LOG_FORMAT").ok().and_then(|text| LogFormat::from_str(&text, true).ok());
    CHOSEN.get().copied().flatten().or(named).unwrap_or(configured)
}

/// Installs the subscriber of this process. `default` is the level without an environment variable;
/// `json` is the format where neither command line nor environment has one.
pub fn install(default: &str, json: bool) {
    let directives = std::env::var("HURTIG_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let filter = EnvFilter::new(directives.as_deref().unwrap_or(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    // A subscriber can be installed once; a second attempt changes nothing.
    let _ = match format(if json { LogFormat::Json } else { LogFormat::Text }) {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
        LogFormat::Text => builder.try_init(),
    };
}
