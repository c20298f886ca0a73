//! The command line.

mod bench;
mod cluster;
mod configuration;
mod demo;
mod doctor;
mod exit;
mod job_text;
mod jobs;
mod logging;
mod process;
mod resources;
mod savepoints;
mod signals;
mod sql;
mod taskmanagers;

use clap::{Args, Parser, Subcommand};
use hurtig::server::Extensions;

pub use exit::{report, report_usage};

/// Version and commit, as `--version` shows them.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HURTIG_COMMIT"), ")");

/// Hurtig: streaming SQL, compatible with Apache Flink.
#[derive(Debug, Parser)]
#[command(name = "hurtig", version = VERSION, propagate_version = true, infer_subcommands = false)]
pub struct Cli {
    /// Format of the log on standard error [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    log_format: Option<logging::LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs SQL statements, on a cluster in this process or on a running one
    Sql(sql::SqlArgs),
    /// Runs a JobManager
    #[command(name = "jobmanager")]
    JobManager(process::JobManagerArgs),
    /// Runs a TaskManager
    #[command(name = "taskmanager")]
    TaskManager(process::TaskManagerArgs),
    /// Starts and stops a cluster of processes on this machine
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Lists, shows, submits, stops and cancels jobs
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Takes, lists, shows and deletes savepoints
    #[command(subcommand)]
    Savepoints(savepoints::SavepointsCommand),
    /// Lists TaskManagers, and empties those that are to go
    #[command(subcommand, name = "taskmanagers")]
    TaskManagers(taskmanagers::TaskManagersCommand),
    /// Runs a script with a live view of its last query
    Demo(demo::DemoArgs),
    /// Measures throughput
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Looks for what keeps a cluster from working
    Doctor(doctor::DoctorArgs),
    /// Prints the reference of all configuration keys, as Markdown
    Configuration,
}

/// Where configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigurationArgs {
    /// Configuration file; without it config.yaml in $HURTIG_CONF_DIR or $FLINK_CONF_DIR, if there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Sets a configuration key, over the file
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub define: Vec<String>,
}

/// Which running cluster.
#[derive(Debug, Clone, Args)]
pub struct RemoteArgs {
    /// JobManager's address (several, separated by commas: the one that leads); without it jobmanager.rpc.address
    /// and jobmanager.rpc.port
    #[arg(long, value_name = "HOST:PORT")]
    pub cluster: Option<String>,
    #[command(flatten)]
    pub configuration: ConfigurationArgs,
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        logging::choose(self.log_format);
        match self.command {
            Command::Sql(args) => sql::run(args),
            Command::JobManager(args) => process::run_job_manager(args, Extensions::default()),
            Command::TaskManager(args) => process::run_task_manager(args, Extensions::default()),
            Command::Cluster(command) => cluster::run(command),
            Command::Jobs(command) => jobs::run(command),
            Command::Savepoints(command) => savepoints::run(command),
            Command::TaskManagers(command) => taskmanagers::run(command),
            Command::Demo(args) => demo::run(args),
            Command::Bench(command) => bench::run(command),
            Command::Doctor(args) => doctor::run(args),
            Command::Configuration => {
                std::io::Write::write_all(
                    &mut std::io::stdout(),
                    hurtig_graph::config::markdown_reference().as_bytes(),
                )?;
                Ok(())
            }
        }
    }
}

/// A runtime for the command's own async code: the library has its own.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
