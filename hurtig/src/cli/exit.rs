//! How a command that failed ends.

use std::io::Write;
use std::process::ExitCode;

use hurtig::{Error, ErrorKind};

/// The command was ended by a signal, after it cleaned up.
#[derive(Debug, thiserror::Error)]
#[error("ended by {0}")]
pub struct Interrupted(pub &'static str);

/// What a command was to look for was found: not an error of the command.
#[derive(Debug, thiserror::Error)]
#[error("{}", if *.0 == 1 { "1 problem was found".to_owned() } else { format!("{} problems were found", .0) })]
pub struct Problems(pub usize);

/// The exit code of [`Problems`].
const PROBLEMS: u8 = 1;

/// Shows what is wrong with the arguments, or the help that was asked for.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    // Where standard error is closed nobody can be told.
    let _ = error.print();
    // Arguments are configuration; clap's own code would be that of SQL that does not parse.
    if error.use_stderr() { ExitCode::from(ErrorKind::Config.exit_code()) } else { ExitCode::SUCCESS }
}

/// Writes the error to standard error and gives the exit code of its kind.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if error.is::<Interrupted>() {
        // After SIGHUP the terminal may be gone.
        let _ = writeln!(std::io::stderr(), "{error}");
        // As shells count a process that a signal ended.
        return ExitCode::from(130);
    }
    if error.is::<Problems>() {
        eprintln!("{error}");
        return ExitCode::from(PROBLEMS);
    }
    eprintln!("error: {error:#}");
    ExitCode::from(kind_of(error).exit_code())
}

/// The kind of the first error in the chain that has one.
pub fn kind_of(error: &anyhow::Error) -> ErrorKind {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let library = cause.downcast_ref::<Error>().map(Error::kind);
        library.or_else(|| cause.downcast_ref::<hurtig_graph::GraphError>().map(hurtig_graph::GraphError::kind))
    };
    error.chain().find_map(kind).unwrap_or(ErrorKind::Internal)
}

/// The reader of our output has gone (as with `| head`): no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<std::io::Error>()).any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
