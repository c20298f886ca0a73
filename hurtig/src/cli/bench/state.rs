//! `hurtig bench state`: what large state costs.
//!
//! Two measurements. *spill*: a job in a cluster in this process whose state grows to several times the
//! memory it may use; throughput must stay steady and memory within its setting. *checkpoints*: thirty
//! checkpoints, between which one percent of the keys change at random; a checkpoint must cost what
//! changed.

mod checkpoints;
mod spill;

use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::super::signals::interrupted;
use super::super::{ConfigurationArgs, block_on, exit, resources};

/// Arguments of `bench state`.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// What to measure
    #[arg(long, value_delimiter = ',', default_value = "spill,checkpoints")]
    scenarios: Vec<String>,
    /// Memory of the process (taskmanager.memory.process.size) while state spills
    #[arg(long, default_value = "256m")]
    memory: String,
    /// How many times that memory the state is
    #[arg(long, default_value_t = 10)]
    factor: u64,
    /// Rows for each key, on average, while state spills
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Size of the state of which one percent changes between checkpoints
    #[arg(long, default_value = "200m")]
    state: String,
    /// Checkpoints to take
    #[arg(long, default_value_t = 30)]
    checkpoints: u64,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    configuration: ConfigurationArgs,
}

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    #[serde(skip_serializing_if = "Option::is_none")]
    spill: Option<spill::Spill>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoints: Option<checkpoints::Checkpoints>,
}

/// Runs the command.
pub fn run(args: &StateArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("note: this is a development build; measure with one made by 'make install'");
    }
    let mut measured = Measured::default();
    for scenario in &args.scenarios {
        match scenario.as_str() {
            "spill" => {
                measured.spill = Some(block_on(async {
                    tokio::select! {
                        measured = spill::measure(args) => measured,
                        name = interrupted() => Err(exit::Interrupted(name?).into()),
                    }
                })?);
            }
            "checkpoints" => measured.checkpoints = Some(checkpoints::measure(args)?),
            other => {
                let text = format!("there is no scenario '{other}': choose of spill, checkpoints");
                return Err(hurtig::Error::new(hurtig::ErrorKind::Config, text).into());
            }
        }
    }
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&measured)?)?;
        return Ok(());
    }
    if let Some(s) = &measured.spill {
        writeln!(out, "state of {} in a process of {}:", bytes(s.state_bytes), bytes(s.memory_setting_bytes))?;
        writeln!(out, "  rows/s by third           {:.0}  {:.0}  {:.0}", s.rates[0], s.rates[1], s.rates[2])?;
        writeln!(out, "  last third over middle    {:.2}", s.last_over_middle)?;
        writeln!(
            out,
            "  memory without page cache {} ({:.2} of the setting)",
            bytes(s.peak_memory_bytes),
            s.memory_ratio
        )?;
        writeln!(out, "  checkpoints               {}", s.checkpoints)?;
    }
    if let Some(c) = &measured.checkpoints {
        writeln!(
            out,
            "{} checkpoints of {}, each with {} changed:",
            c.checkpoints,
            bytes(c.state_bytes),
            bytes(c.changed_bytes)
        )?;
        writeln!(
            out,
            "  uploaded, median          {} ({:.2} of what changed)",
            bytes(c.uploaded_median_bytes),
            c.median_ratio
        )?;
        writeln!(
            out,
            "  uploaded, all             {} ({:.2} of what changed)",
            bytes(c.uploaded_total_bytes),
            c.total_ratio
        )?;
        writeln!(out, "  pause of the task, p99    {} us (median {} us)", c.pause_p99_us, c.pause_median_us)?;
        writeln!(out, "  until durable, median     {} ms", c.durable_median_ms)?;
    }
    Ok(())
}

fn bytes(bytes: u64) -> String {
    resources::bytes_text(bytes)
}

/// Bytes of a size like `256m`.
fn parse_size(text: &str) -> anyhow::Result<u64> {
    let mut configuration = hurtig::Configuration::default();
    configuration.set(hurtig_graph::config::keys::TASKMANAGER_MEMORY_PROCESS.key, text);
    let parsed = configuration.memory_bytes(&hurtig_graph::config::keys::TASKMANAGER_MEMORY_PROCESS)?;
    Ok(parsed.unwrap_or(0))
}
