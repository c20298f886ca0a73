//! `hurtig bench`: what this machine makes of Hurtig, measured by running jobs as users run them.

mod nexmark;

use clap::Subcommand;

use super::logging;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Nexmark: queries over an auction site's events
    Nexmark(nexmark::NexmarkArgs),
}

/// Runs the command.
pub fn run(command: BenchCommand) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    match command {
        BenchCommand::Nexmark(args) => nexmark::run(&args),
    }
}
