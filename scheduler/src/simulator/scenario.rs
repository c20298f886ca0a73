//! What a seed stands for.

use hurtig_graph::config::Configuration;
use hurtig_graph::job::JobPlan;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::checkpoint::CheckpointPhase;
use crate::job::state::JobState;

use super::plans::{PlanBuilder, forward, hash};

/// Something that happens to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process dies; its connections break at once.
    Kill,
    /// A machine vanishes: nothing breaks, nothing answers.
    Vanish,
    /// A connection to the JobManager breaks; the process lives on.
    Disconnect,
    /// A connection to the JobManager falls silent; the process lives on.
    Silence,
    /// A task fails.
    FailTask,
    /// The user asks for a savepoint.
    Savepoint,
    /// The user stops the job with a savepoint.
    Stop,
    /// The same, with the end of event time before it.
    StopDraining,
    /// The user cancels the job.
    Cancel,
    /// The user wants another parallelism.
    Rescale,
    /// A process gets notice that it is to go.
    Decommission,
    /// Someone else writes HEAD.
    Usurp,
    /// The process of the JobManager that leads dies; it comes back later.
    KillLeader,
    /// It is paused; what it does afterwards comes late.
    PauseLeader,
    /// Its calls of the object store are lost for a while.
    CutLeader,
}

/// A moment in the life of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// A checkpoint is in this phase.
    Phase(CheckpointPhase),
    /// The job is in this state.
    State(JobState),
    /// HEAD says that the job was stopped.
    Stopped,
    /// The registry has the job's result, and not all of it is cleaned up.
    ResultKept,
}

/// What happens then to the JobManager that leads, or to the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The process dies.
    Crash,
    /// It learns that it leads no more.
    StepDown,
    /// The user cancels the job.
    Cancel,
}

/// Which kinds of trouble seeds are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Everything, JobManagers that die and jobs that are stopped among it.
    All,
    /// Tasks and TaskManagers fail; the JobManager lives, and the user lets the job run.
    Failures,
}

/// A seed, spelled out.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The job, with its configuration.
    pub plan: JobPlan,
    /// Periodic checkpoints are on.
    pub checkpointing: bool,
    /// Records of each split; splits are numbered from 0, `source` * 100 up.
    pub splits: u32,
    /// Records in a split.
    pub split_records: u64,
    /// Slots of each TaskManager.
    pub taskmanagers: Vec<u32>,
    /// When what happens (virtual ms after the start), in order.
    pub faults: Vec<(i64, Fault)>,
    /// What waits for a moment, from when on.
    pub traps: Vec<(i64, When, Blow)>,
    /// How much later than JobManagers TaskManagers start.
    pub late_ms: i64,
    /// JobManagers that stand in for each other.
    pub managers: usize,
    /// How long tasks run on without a JobManager.
    pub grace_ms: i64,
    /// After this time nothing bad happens any more.
    pub faults_end_ms: i64,
    /// Chance of a fault for each storage call, in percent.
    pub store_faults_percent: u32,
    /// The store refuses everything for good.
    pub store_refuses: bool,
    /// The user cancels the job when its tasks are about to finish.
    pub cancel_at_finish: bool,
    /// Chance that a task declines a checkpoint, in percent.
    pub decline_percent: u32,
    /// The same for a savepoint.
    pub savepoint_decline_percent: u32,
    /// A task fails when HEAD says that the job was stopped.
    pub fail_when_stopped: bool,
    /// Chance that listing splits fails, in percent.
    pub discovery_fails_percent: u32,
    /// Chance that a deployment fails to restore, in percent.
    pub restore_fails_percent: u32,
}

impl Scenario {
    /// The scenario of a world whose randomness is `rng`.
    pub fn draw(rng: &mut ChaCha8Rng, mix: Mix) -> Scenario {
        // Most seeds are about failures of a job that could finish; the others about its edges.
        let special = match (mix, rng.random_range(0..100)) {
            // A stop with a savepoint, or too little patience for slots.
            (Mix::Failures, 38..=79) => 80,
            (_, special) => special,
        };
        let checkpointing = special != 0;
        let parallelism = rng.random_range(1..=3);
        let mut configuration = settings(rng, checkpointing);
        let mut taskmanagers = cluster(rng, parallelism, (1..=6).contains(&special));
        let faults_end_ms = rng.random_range(15_000..40_000);
        let mut faults = Vec::new();
        let mut traps = Vec::new();
        for _ in 0..rng.random_range(2..=5) {
            let at = rng.random_range(5_000..faults_end_ms);
            faults.push((at, failure(rng)));
        }
        faults.sort_by_key(|(at, _)| *at);
        match special {
            1..=3 => configuration.set("slot.request.timeout", "8 s"),
            4..=6 => faults.push((rng.random_range(2_500..7_000), Fault::Cancel)),
            7..=12 => configuration.set("slot.request.timeout", "4 s"),
            13..=15 => traps.push((0, When::State(JobState::Created), Blow::Cancel)),
            16 | 17 => traps.push((0, When::State(JobState::WaitingForResources), Blow::Cancel)),
            18..=23 => faults.push((faults[0].0 + rng.random_range(100..2_500), Fault::Cancel)),
            24..=27 => faults.push((rng.random_range(3_000..faults_end_ms), Fault::Usurp)),
            28 => configuration.set("restart-strategy.type", "none"),
            29 | 30 => faults.clear(),
            38..=67 => {
                let at = rng.random_range(2_000..faults_end_ms / 2);
                faults.push((at, if rng.random_bool(0.7) { Fault::Stop } else { Fault::StopDraining }));
                let after = at + rng.random_range(20..2_500);
                match special {
                    38..=43 => faults.push((after, Fault::Cancel)),
                    44..=46 => faults.push((after, failure(rng))),
                    47..=49 => traps.push((0, When::State(JobState::StoppingWithSavepoint), Blow::StepDown)),
                    50 | 51 => traps.push((0, When::Stopped, Blow::StepDown)),
                    52 | 53 => traps.push((0, When::Stopped, Blow::Crash)),
                    _ => {}
                }
            }
            68..=79 => configuration.set("slot.request.timeout", "2500 ms"),
            _ => {}
        }
        // The quiet ones, and those that are about the ways in which a stop can go wrong.
        if mix == Mix::All && !matches!(special, 29 | 30 | 38..=46 | 58..=67) {
            leaders(rng, &mut configuration, faults_end_ms, &mut faults, &mut traps);
        }
        for _ in 0..rng.random_range(0..=1) {
            faults.push((rng.random_range(2_000..faults_end_ms), Fault::Savepoint));
        }
        if rng.random_bool(0.35) && !matches!(special, 29 | 30 | 38..=67) {
            for _ in 0..rng.random_range(1..=3) {
                faults.push((rng.random_range(3_000..faults_end_ms), Fault::Rescale));
            }
        }
        // Not where what comes of a stop is looked for.
        if rng.random_bool(0.6) && !matches!(special, 1..=12 | 29 | 30 | 38..=67) {
            if rng.random_bool(0.8) {
                // There is somewhere else to go.
                taskmanagers.extend((0..rng.random_range(1..=3)).map(|_| 2));
            }
            let at = rng.random_range(3_000..faults_end_ms);
            faults.push((at, Fault::Decommission));
            for _ in 0..rng.random_range(0..=2) {
                faults.push((at + rng.random_range(0..4_000), Fault::Decommission));
            }
            if mix == Mix::All && rng.random_bool(0.25) {
                faults.push((at + rng.random_range(100..3_000), Fault::KillLeader));
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        let waits = |trap: &(i64, When, Blow)| trap.1 == When::State(JobState::WaitingForResources);
        let late_ms = if traps.iter().any(waits) { 2_500 } else { 0 };
        let quiet = matches!(special, 29 | 30);
        Scenario {
            plan: job(rng, parallelism, configuration),
            checkpointing,
            splits: rng.random_range(parallelism..=parallelism * 2),
            split_records: rng.random_range(150..400),
            taskmanagers,
            faults,
            traps,
            late_ms,
            managers: if rng.random_bool(0.75) { 2 } else { 1 },
            grace_ms: if rng.random_bool(0.15) { 0 } else { rng.random_range(15_000..40_000) },
            faults_end_ms: if quiet { 0 } else { faults_end_ms },
            store_faults_percent: if rng.random_bool(0.5) { 0 } else { rng.random_range(2..=12) },
            store_refuses: matches!(special, 31..=33),
            cancel_at_finish: matches!(special, 34..=37),
            decline_percent: if rng.random_bool(0.8) { 0 } else { 2 },
            savepoint_decline_percent: if matches!(special, 54..=57) { 40 } else { 0 },
            fail_when_stopped: matches!(special, 44..=49 | 58..=67),
            discovery_fails_percent: if rng.random_bool(0.9) { 0 } else { 30 },
            restore_fails_percent: if rng.random_bool(0.6) { 0 } else { 4 },
        }
    }
}

/// What happens to JobManagers that lead.
fn leaders(
    rng: &mut ChaCha8Rng,
    configuration: &mut Configuration,
    end_ms: i64,
    faults: &mut Vec<(i64, Fault)>,
    traps: &mut Vec<(i64, When, Blow)>,
) {
    for _ in 0..rng.random_range(0..=2) {
        let fault = match rng.random_range(0..10) {
            0..=4 => Fault::KillLeader,
            5..=7 => Fault::PauseLeader,
            _ => Fault::CutLeader,
        };
        faults.push((rng.random_range(2_000..end_ms), fault));
    }
    let phases = [CheckpointPhase::Acknowledging, CheckpointPhase::WritingMetadata, CheckpointPhase::Publishing];
    let phase = When::Phase(phases[rng.random_range(0..phases.len())]);
    match rng.random_range(0..100) {
        0..=49 => traps.push((rng.random_range(2_000..end_ms), phase, Blow::Crash)),
        50..=64 => traps.push((0, When::ResultKept, Blow::Crash)),
        _ => {}
    }
    let early = rng.random_range(3_000..10_000);
    let at = |state, blow| (0, When::State(state), blow);
    match rng.random_range(0..100) {
        0..=3 => traps.push(at(JobState::Created, Blow::StepDown)),
        4..=8 => traps.push(at(JobState::WaitingForResources, Blow::StepDown)),
        9..=11 => traps.push(at(JobState::Deploying, Blow::StepDown)),
        12..=15 => traps.push(at(JobState::Restarting, Blow::StepDown)),
        16..=23 => {
            faults.push((early, Fault::Cancel));
            traps.push(at(JobState::Canceling, Blow::StepDown));
        }
        24..=29 => {
            configuration.set("restart-strategy.type", "none");
            faults.push((early, Fault::FailTask));
            traps.push(at(JobState::Failing, Blow::StepDown));
        }
        30..=38 => {
            faults.push((early, Fault::KillLeader));
            traps.push(at(JobState::Reconciling, Blow::StepDown));
        }
        39..=44 => {
            faults.push((early, Fault::KillLeader));
            traps.push(at(JobState::Reconciling, Blow::Cancel));
        }
        45..=47 => traps.push(at(JobState::Deploying, Blow::Cancel)),
        48..=50 => traps.push(at(JobState::Restarting, Blow::Cancel)),
        _ => {}
    }
}

fn failure(rng: &mut ChaCha8Rng) -> Fault {
    match rng.random_range(0..100) {
        0..=29 => Fault::Kill,
        30..=39 => Fault::Vanish,
        40..=54 => Fault::Disconnect,
        55..=64 => Fault::Silence,
        _ => Fault::FailTask,
    }
}

fn settings(rng: &mut ChaCha8Rng, checkpointing: bool) -> Configuration {
    let mut configuration = Configuration::default();
    let mut set = |key: &str, value: String| configuration.set(key, value);
    if checkpointing {
        set("execution.checkpointing.interval", format!("{} ms", rng.random_range(500..3_000)));
        set("execution.checkpointing.min-pause", format!("{} ms", rng.random_range(0..400)));
        set("execution.checkpointing.timeout", format!("{} s", rng.random_range(4..20)));
        set("execution.checkpointing.num-retained", rng.random_range(1..=3).to_string());
        set("execution.checkpointing.tolerable-failed-checkpoints", rng.random_range(0..=4).to_string());
    }
    match rng.random_range(0..10) {
        0..=1 => {
            set("restart-strategy", "fixed-delay".into());
            set("restart-strategy.fixed-delay.attempts", rng.random_range(1..=8).to_string());
        }
        2 => {
            set("restart-strategy.type", "failure-rate".into());
            set("restart-strategy.failure-rate.max-failures-per-interval", rng.random_range(2..=8).to_string());
        }
        _ => set("restart-strategy.exponential-delay.max-backoff", "5 s".into()),
    }
    if rng.random_bool(0.35) {
        set("jobmanager.scheduler", "Adaptive".into());
        set("jobmanager.adaptive-scheduler.resource-stabilization-timeout", "2 s".into());
        set("jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout", "4 s".into());
        set("jobmanager.adaptive-scheduler.combined-restart.enabled", rng.random_bool(0.5).to_string());
        set("jobmanager.adaptive-scheduler.combined-restart.window-interval", "6 s".into());
    }
    set("jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling", "3 s".into());
    if rng.random_bool(0.15) {
        set("jobmanager.execution.failover-strategy", "full".into());
    }
    configuration
}

/// Slots of each TaskManager: enough for the job, or one too few.
fn cluster(rng: &mut ChaCha8Rng, parallelism: u32, too_small: bool) -> Vec<u32> {
    let needed = if too_small { parallelism - 1 } else { parallelism + rng.random_range(0..=2) };
    let mut left = needed.max(u32::from(!too_small));
    let mut taskmanagers = Vec::new();
    while left > 0 {
        let slots = rng.random_range(1..=2).min(left);
        taskmanagers.push(slots);
        left -= slots;
    }
    taskmanagers
}

/// Forward pipelines (many regions), an exchange (one region), or both side by side.
fn job(rng: &mut ChaCha8Rng, parallelism: u32, configuration: Configuration) -> JobPlan {
    let other = rng.random_range(1..=parallelism);
    let builder = match rng.random_range(0..5) {
        0 => PlanBuilder::new().source("s0", parallelism).vertex("k0", parallelism).edge(0, 1, forward()),
        1 | 2 => PlanBuilder::new()
            .source("s0", other)
            .vertex("m0", parallelism)
            .vertex("k0", parallelism)
            .edge(0, 1, hash())
            .edge(1, 2, forward()),
        _ => PlanBuilder::new()
            .source("s0", parallelism)
            .vertex("k0", parallelism)
            .source("s1", other)
            .vertex("k1", parallelism)
            .edge(0, 1, forward())
            .edge(2, 3, hash()),
    };
    let mut plan = builder.build();
    plan.configuration = configuration;
    plan
}
