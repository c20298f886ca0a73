//! `hurtig doctor`: looks for what commonly keeps a cluster from working.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use hurtig::client::Client;
use hurtig::v1;
use hurtig::{Error, ErrorKind};
use hurtig_graph::config::{Configuration, Severity, check, keys};
use hurtig_state::storage::{ObjectStores, join};

use super::{RemoteArgs, block_on, configuration, logging};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub fn run(args: DoctorArgs) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    let mut findings = Findings::default();
    let configuration = configuration::load(&args.remote.configuration)?;
    findings.configuration(&configuration)?;
    block_on(async {
        findings.checkpoint_folder(&configuration).await?;
        findings.cluster(&args.remote).await?;
        findings.conclude()
    })
}

#[derive(Default)]
struct Findings {
    problems: usize,
}

impl Findings {
    fn good(&self, text: &str) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "ok       {text}")?;
        Ok(())
    }

    fn problem(&mut self, text: &str) -> anyhow::Result<()> {
        self.problems += 1;
        writeln!(std::io::stdout(), "PROBLEM  {text}")?;
        Ok(())
    }

    fn configuration(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        for diagnostic in check(configuration) {
            match diagnostic.severity {
                Severity::Info => self.good(&format!("note: {diagnostic}"))?,
                Severity::Warning | Severity::Error => self.problem(&diagnostic.message)?,
            }
        }
        self.good(&format!("configuration: {} keys set", configuration.as_map().len()))
    }

    /// Writes, reads and deletes an object where checkpoints go.
    async fn checkpoint_folder(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        let Some(folder) = configuration.text(&keys::CHECKPOINTING_DIRECTORY) else {
            return self.good("checkpoints: no execution.checkpointing.dir is set; they stay with the JobManager");
        };
        let stores = Arc::new(ObjectStores::new(configuration.clone(), None));
        let object = join(folder, &format!("hurtig-doctor-{}", uuid::Uuid::new_v4().simple()));
        let tried = async {
            stores.put_if_absent(&object, "ok".into()).await?;
            stores.get(&object).await?;
            stores.delete(&object).await
        };
        match tried.await {
            Ok(()) => self.good(&format!("checkpoints: {folder} can be written, read and deleted")),
            Err(error) => self.problem(&format!("checkpoints: {folder}: {error}")),
        }
    }

    async fn cluster(&mut self, remote: &RemoteArgs) -> anyhow::Result<()> {
        let (address, configuration) = configuration::cluster(remote)?;
        let client = match Client::connect_with(&address, &configuration).await {
            Ok(client) => client,
            Err(error) => return self.problem(&error.to_string()),
        };
        let overview = client.overview().await?;
        let (free, total, members) = (overview.slots_free, overview.slots_total, overview.taskmanagers.len());
        self.good(&format!("JobManager at {address}: version {} ({})", overview.version, overview.commit))?;
        if members == 0 {
            self.problem("no TaskManager is registered: start one, or see its log for why it cannot register")?;
        } else {
            self.good(&format!("{members} TaskManagers, {free} of {total} slots free"))?;
        }
        for job in client.jobs().await? {
            self.job(&client, &job).await?;
        }
        Ok(())
    }

    async fn job(&mut self, client: &Client, job: &v1::JobStatus) -> anyhow::Result<()> {
        let (id, name) = (&job.job_id, &job.name);
        match job.state.as_str() {
            "FAILED" => return self.problem(&format!("job {id} ({name}) has failed: {}", job.root_cause)),
            "FINISHED" | "CANCELED" => return Ok(()),
            "RUNNING" => self.good(&format!("job {id} ({name}) is running, {} restarts", job.restarts))?,
            state if !job.waiting_for.is_empty() => {
                self.problem(&format!("job {id} ({name}) is {state}: it {}", job.waiting_for))?;
            }
            state => self.problem(&format!("job {id} ({name}) is {state}: {}", job.root_cause))?,
        }
        if job.checkpoints_failed > job.checkpoints_completed {
            self.problem(&format!("job {id}: more checkpoints have failed than completed"))?;
        }
        for vertex in client.job(id).describe().await?.vertices {
            for subtask in vertex.subtasks {
                let time = subtask.busy_ms + subtask.idle_ms + subtask.backpressured_ms;
                if time > 10_000 && subtask.backpressured_ms * 2 > time {
                    let share = 100 * subtask.backpressured_ms / time;
                    let place = format!("{} ({})", vertex.name, subtask.subtask);
                    self.problem(&format!("job {id}: {place} is held back {share} % of the time by what follows it"))?;
                }
            }
        }
        Ok(())
    }

    fn conclude(&self) -> anyhow::Result<()> {
        match self.problems {
            0 => Ok(()),
            1 => Err(Error::new(ErrorKind::Config, "1 problem was found").into()),
            n => Err(Error::new(ErrorKind::Config, format!("{n} problems were found")).into()),
        }
    }
}
