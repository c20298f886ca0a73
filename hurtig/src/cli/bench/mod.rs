//! `hurtig bench`: what this machine makes of Hurtig, measured by running jobs as users run them.

mod checksum;
mod latency;
mod nexmark;
mod queries;
mod recovery;
mod state;

use clap::Subcommand;

use super::logging;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Throughput of the Nexmark queries, over an auction site's events
    Nexmark(nexmark::NexmarkArgs),
    /// Time from the creation of an event to the sink, at a given rate
    Latency(latency::LatencyArgs),
    /// State: larger than its memory, and checkpoints of which little changes
    State(state::StateArgs),
    /// Recovery: how long a job with much state is away after a failure
    Recovery(recovery::RecoveryArgs),
    /// A process of a bench
    #[command(subcommand, hide = true)]
    Process(recovery::ProcessCommand),
}

/// Runs the command.
pub fn run(command: BenchCommand) -> anyhow::Result<()> {
    if let BenchCommand::Process(command) = command {
        // It has its own logging.
        return recovery::run_process(command);
    }
    logging::install(logging::QUIET, false);
    match command {
        BenchCommand::Process(_) => Ok(()),
        BenchCommand::Recovery(args) => recovery::run(&args),
        BenchCommand::Nexmark(args) => nexmark::run(&args),
        BenchCommand::Latency(args) => latency::run(&args),
        BenchCommand::State(args) => state::run(&args),
    }
}
