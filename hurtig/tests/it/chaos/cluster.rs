//! A cluster whose processes have a network namespace each, two JobManagers among them, with S3 behind a
//! proxy, and what can be seen of its job from outside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hurtig::client::Client;
use hurtig_testkit::{Host, Network, S3Server, TcpProxy};

use crate::harness::{Process, job_id_in};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at the job.
const LOOK: Duration = Duration::from_millis(50);
/// How long a JobManager may take to answer before the other one is asked.
const ANSWER: Duration = Duration::from_secs(2);
/// `heartbeat.timeout`
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(4);
/// `hurtig.high-availability.lease`
pub const LEASE: Duration = Duration::from_secs(3);
/// Checkpoints of a leader have numbers at least this much above those of the one before.
pub const LEADERS_CHECKPOINTS: u64 = 100;

/// What can be seen of the job.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub state: String,
    pub restarts: u32,
    pub last_checkpoint: u64,
    pub failed_checkpoints: u64,
    pub root_cause: String,
    /// Of each subtask: state, attempt, TaskManager.
    pub subtasks: BTreeMap<(String, u32), (String, u32, String)>,
}

impl Seen {
    pub fn runs(&self) -> bool {
        self.state == "RUNNING" && self.subtasks.values().all(|(state, ..)| state == "RUNNING")
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "FINISHED" | "FAILED" | "CANCELED")
    }

    /// Attempts of all subtasks together.
    pub fn attempts(&self) -> u32 {
        self.subtasks.values().map(|(_, attempt, _)| attempt).sum()
    }

    /// The largest number of subtasks of an operator.
    pub fn width(&self) -> usize {
        let widths = self.subtasks.keys().fold(BTreeMap::<&str, usize>::new(), |mut widths, (vertex, _)| {
            *widths.entry(vertex).or_default() += 1;
            widths
        });
        widths.into_values().max().unwrap_or(0)
    }

    /// TaskManagers that run something.
    pub fn in_use(&self) -> Vec<String> {
        let mut names: Vec<String> = self.subtasks.values().map(|(.., name)| name.clone()).collect();
        names.retain(|name| !name.is_empty());
        names.sort();
        names.dedup();
        names
    }
}

/// A JobManager of the cluster.
pub struct JobManager {
    pub host: Host,
    pub process: Process,
}

impl JobManager {
    fn address(&self) -> &str {
        self.process.ready["rpc"].as_str().unwrap()
    }
}

/// A TaskManager of the cluster.
pub struct Member {
    pub host: Host,
    pub resource_id: String,
    pub process: Process,
}

const JOBMANAGERS: usize = 2;

/// See the module documentation. To be used inside [`Network::in_router`].
pub struct ChaosCluster<'n> {
    pub network: &'n Network,
    pub s3: S3Server,
    pub proxy: TcpProxy,
    pub jobmanagers: Vec<JobManager>,
    pub members: Vec<Member>,
    pub folder: tempfile::TempDir,
    options: Vec<String>,
    /// Of the JobManager that led when it was last asked.
    client: RefCell<Option<Client>>,
    runtime: tokio::runtime::Runtime,
    /// TaskManagers started so far under a new name.
    named: usize,
}

impl<'n> ChaosCluster<'n> {
    /// JobManagers on the first two hosts, a TaskManager with two slots on each other host. `more` are
    /// settings (`key=value`) that win over those of all tests here.
    pub fn start(network: &'n Network, seed: u64, more: &[&str]) -> ChaosCluster<'n> {
        let folder = tempfile::tempdir().unwrap();
        let router = network.router_address().into();
        let s3 = S3Server::start_on(router, "flink", "access", "secret");
        let proxy = TcpProxy::start(router, s3.address(), seed);
        let mut options: Vec<String> = [
            "heartbeat.interval=400 ms",
            "heartbeat.timeout=4 s",
            "execution.checkpointing.interval=400 ms",
            "execution.checkpointing.timeout=8 s",
            "execution.checkpointing.tolerable-failed-checkpoints=1000",
            "execution.checkpointing.dir=s3p://flink/checkpoints",
            "execution.state-recovery.from-local=true",
            "high-availability.type=kubernetes",
            "high-availability.storageDir=s3p://flink/ha",
            "high-availability.cluster-id=chaos",
            "hurtig.high-availability.lease=3 s",
            "hurtig.high-availability.reconcile-timeout=6 s",
            "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling=0 s",
            "restart-strategy=exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff=20 ms",
            "restart-strategy.exponential-delay.max-backoff=500 ms",
            "s3.path.style.access=true",
            "s3.access-key=access",
            "s3.secret-key=secret",
            "s3.connect-timeout=2 s",
            "s3.socket-timeout=3 s",
            "s3.max-error-retries=3",
            "s3.max-retry-time=5 s",
            "taskmanager.numberOfTaskSlots=2",
        ]
        .map(str::to_owned)
        .to_vec();
        options.push(format!("s3.endpoint=http://{}", proxy.address()));
        options.extend(more.iter().map(|option| (*option).to_owned()));
        let hosts = network.hosts();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut cluster = ChaosCluster {
            network,
            s3,
            proxy,
            jobmanagers: Vec::new(),
            members: Vec::new(),
            folder,
            options,
            client: RefCell::new(None),
            runtime,
            named: 0,
        };
        for &host in &hosts[..JOBMANAGERS] {
            let process = cluster.spawn_jobmanager(host);
            cluster.jobmanagers.push(JobManager { host, process });
        }
        for &host in &hosts[JOBMANAGERS..] {
            let name = cluster.new_name();
            let process = cluster.spawn_taskmanager(host, &name);
            cluster.members.push(Member { host, resource_id: name, process });
        }
        cluster
    }

    fn new_name(&mut self) -> String {
        self.named += 1;
        format!("tm-{}", self.named)
    }

    pub fn working_dir(&self, resource_id: &str) -> PathBuf {
        self.folder.path().join(resource_id)
    }

    fn spawn_jobmanager(&self, host: Host) -> Process {
        let mut command = server(self.network, host, "jobmanager");
        let own = [format!("jobmanager.bind-host={}", host.address()), "jobmanager.rpc.port=6123".to_owned()];
        for option in self.options.iter().chain(&own) {
            command.args(["-D", option]);
        }
        Process::launch(command, self.folder.path().join(format!("jobmanager-{}.log", host.address())), true)
    }

    fn spawn_taskmanager(&self, host: Host, resource_id: &str) -> Process {
        let own = [
            format!("taskmanager.bind-host={}", host.address()),
            format!("taskmanager.resource-id={resource_id}"),
            format!("process.taskmanager.working-dir={}", self.working_dir(resource_id).display()),
        ];
        let mut command = server(self.network, host, "taskmanager");
        for option in self.options.iter().chain(&own) {
            command.args(["-D", option]);
        }
        Process::launch(command, self.folder.path().join(format!("{resource_id}.log")), true)
    }

    /// Kills TaskManager `index` as `kill -9` does.
    pub fn kill(&mut self, index: usize) {
        self.members[index].process.kill();
    }

    /// Starts a killed TaskManager again: as itself with its disk, or as a new one.
    pub fn restart(&mut self, index: usize, as_itself: bool) {
        let name = if as_itself { self.members[index].resource_id.clone() } else { self.new_name() };
        let process = self.spawn_taskmanager(self.members[index].host, &name);
        let member = &mut self.members[index];
        (member.process, member.resource_id) = (process, name);
    }

    /// Kills JobManager `index` as `kill -9` does.
    pub fn kill_jobmanager(&mut self, index: usize) {
        self.jobmanagers[index].process.kill();
    }

    pub fn restart_jobmanager(&mut self, index: usize) {
        self.jobmanagers[index].process = self.spawn_jobmanager(self.jobmanagers[index].host);
    }

    /// The JobManager that led when it was last asked.
    pub fn leader(&self) -> usize {
        let client = self.client.borrow();
        let address = client.as_ref().map(Client::address);
        self.jobmanagers.iter().position(|jobmanager| Some(jobmanager.address()) == address).unwrap_or(0)
    }

    pub fn leader_host(&self) -> Host {
        self.jobmanagers[self.leader()].host
    }

    /// All JobManagers, as `--cluster` takes them.
    pub fn addresses(&self) -> String {
        let addresses: Vec<&str> = self.jobmanagers.iter().map(JobManager::address).collect();
        addresses.join(",")
    }

    /// What all processes have logged that matters to both JobManagers.
    pub fn logged_by_jobmanagers(&self) -> String {
        self.jobmanagers.iter().map(|jobmanager| jobmanager.process.logged()).collect()
    }

    /// Runs a script whose last statement starts a job; gives the job's id.
    pub fn insert(&self, script: &str) -> String {
        let arguments = ["sql", "--cluster", &self.addresses(), "-e", script];
        let output = crate::harness::hurtig().args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        job_id_in(&text)
    }

    /// The job now, or when a JobManager leads again.
    pub fn see(&self, job: &str) -> Seen {
        let start = Instant::now();
        loop {
            if let Some(seen) = self.try_see(job) {
                return seen;
            }
            assert!(start.elapsed() < PATIENCE, "no JobManager leads");
            std::thread::sleep(LOOK);
        }
    }

    /// The job now; `None` while no JobManager leads or none knows the job yet.
    pub fn try_see(&self, job: &str) -> Option<Seen> {
        let mut client = self.client.borrow_mut();
        if client.is_none() {
            *client = self.runtime.block_on(async {
                for jobmanager in &self.jobmanagers {
                    let connected = tokio::time::timeout(ANSWER, Client::connect(jobmanager.address())).await;
                    if let Ok(Ok(client)) = connected {
                        return Some(client);
                    }
                }
                None
            });
        }
        let asked = client.as_ref()?;
        let asked = self.runtime.block_on(async { tokio::time::timeout(ANSWER, asked.job(job).describe()).await });
        let Ok(Ok(details)) = asked else {
            *client = None;
            return None;
        };
        let status = details.status.unwrap();
        let mut subtasks = BTreeMap::new();
        for vertex in details.vertices {
            for subtask in vertex.subtasks {
                let key = (vertex.id.clone(), subtask.subtask);
                subtasks.insert(key, (subtask.state, subtask.attempt, subtask.taskmanager));
            }
        }
        Some(Seen {
            state: status.state,
            restarts: status.restarts,
            last_checkpoint: status.last_checkpoint,
            failed_checkpoints: status.checkpoints_failed,
            root_cause: status.root_cause,
            subtasks,
        })
    }

    /// Looks at the job until `condition` holds.
    pub fn wait(&self, job: &str, what: &str, condition: impl Fn(&Seen) -> bool) -> Seen {
        let start = Instant::now();
        loop {
            let seen = self.see(job);
            if condition(&seen) {
                return seen;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}; the job: {seen:#?}");
            assert_ne!(seen.state, "FAILED", "while waiting until {what}: {seen:#?}");
            std::thread::sleep(LOOK);
        }
    }

    /// Looks at the job for at most `time`; gives the first look for which `condition` holds.
    pub fn watch(&self, job: &str, time: Duration, condition: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let start = Instant::now();
        loop {
            if let Some(seen) = self.try_see(job).filter(|seen| condition(seen)) {
                return Some(seen);
            }
            if start.elapsed() > time {
                return None;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until all subtasks run and a checkpoint completes after that, or the job has ended.
    pub fn wait_healthy(&self, job: &str) -> Seen {
        loop {
            let running = self.wait(job, "all subtasks run", |seen| seen.runs() || seen.has_ended());
            let healthy = self.wait(job, "a checkpoint completes", |seen| {
                seen.has_ended() || !seen.runs() || seen.last_checkpoint > running.last_checkpoint
            });
            if healthy.has_ended() || healthy.runs() {
                return healthy;
            }
        }
    }
}

fn server(network: &Network, host: Host, role: &str) -> std::process::Command {
    let mut command = network.command(host, env!("CARGO_BIN_EXE_hurtig"));
    command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()));
    command.args([role, "--insecure-network"]);
    command
}
