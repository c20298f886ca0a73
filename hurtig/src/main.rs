//! The `hurtig` binary: everything that is process-wide (allocator, logs, metrics recorder, signals)
//! is set here and nowhere in the library.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Cli::try_parse().map(cli::Cli::run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => cli::report(&error),
        Err(usage) => cli::report_usage(&usage),
    }
}
