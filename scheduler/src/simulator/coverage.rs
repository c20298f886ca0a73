//! What seeds have reached, one by one and together.

use std::collections::BTreeMap;
use std::fmt;

use crate::checkpoint::CheckpointPhase;
use crate::job::JobMaster;
use crate::job::state::{ExecutionState, JobState};
use crate::simulator::scenario::Mix;

/// What came of one seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Of everything that happened, in order.
    pub trace_hash: u64,
    /// Number of events.
    pub events: u64,
    /// A region was restored from a checkpoint after a failure.
    pub restored: bool,
    /// A message of an attempt that was over was refused.
    pub refused_stale: bool,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Restarts.
    pub restarts: u64,
    /// A region restarted while another one ran on.
    pub region_only: bool,
    /// The parallelism has changed.
    pub rescaled: bool,
    /// Of a running job.
    pub rescaled_running: bool,
    /// Notices of processes that are to go.
    pub notices: u64,
    /// Those on which nothing was left before they went.
    pub drained: u64,
    /// A notice was told to a later leader.
    pub noticed_again: bool,
    /// Restarts that left processes which were to go.
    pub decommissions: u64,
    /// Those that left several at once.
    pub decommissions_together: u64,
    /// Processes that were to go have died with tasks.
    pub died_before_drained: u64,
    /// The job was stopped with a savepoint.
    pub stopped: bool,
    /// A JobManager that led has died.
    pub leader_crashes: u64,
    /// One of them while a checkpoint was under way.
    pub crashed_in_checkpoint: bool,
    /// Jobs of earlier leaders that were taken on.
    pub recoveries: u64,
    /// All tasks of the job were taken over as they ran.
    pub adopted: bool,
    /// Some regions were, others restarted.
    pub adopted_in_part: bool,
    /// A later leader has told the tasks of a stopped job.
    pub stop_finished: bool,
    /// Two JobManagers led at the same time, each as it saw it.
    pub two_leaders: bool,
    /// Terms that ended because a write was refused.
    pub fenced: u64,
    /// The state in which the job ended.
    pub end: Option<JobState>,
    /// Transitions of the job.
    pub job: BTreeMap<(JobState, JobState), u64>,
    /// Transitions of executions.
    pub executions: BTreeMap<(ExecutionState, ExecutionState), u64>,
    /// Transitions of checkpoints.
    pub phases: BTreeMap<(CheckpointPhase, CheckpointPhase), u64>,
}

impl Report {
    /// Adds the figures of one leader's job.
    pub fn absorb(&mut self, job: &JobMaster) {
        let counters = job.counters();
        self.restored |= counters.regions_restored > 0;
        self.refused_stale |= counters.stale_messages > 0;
        self.checkpoints += job.checkpoints().stats().completed;
        self.restarts += u64::from(job.status().restarts);
        self.rescaled |= counters.rescales > 0;
        self.rescaled_running |= counters.rescales_while_running > 0;
        self.decommissions += counters.decommissions;
        self.decommissions_together += counters.decommissions_together;
        self.died_before_drained += counters.died_before_drained;
        self.stop_finished |= counters.stops_finished > 0;
        self.adopted |= counters.adopted > 0;
        self.adopted_in_part |= counters.adopted_in_part > 0;
        add(&mut self.job, &counters.job);
        add(&mut self.executions, &counters.executions);
        add(&mut self.phases, job.checkpoints().transitions());
    }
}

/// The sum of many reports.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    seeds: u64,
    events: u64,
    restored: u64,
    refused_stale: u64,
    region_only: u64,
    rescaled: u64,
    rescaled_running: u64,
    stop_finished: u64,
    noticed: u64,
    drained: u64,
    noticed_again: u64,
    decommissioned: u64,
    decommissioned_together: u64,
    died_before_drained: u64,
    stopped: u64,
    leader_crashes: u64,
    crashed_in_checkpoint: u64,
    recoveries: u64,
    adopted: u64,
    adopted_in_part: u64,
    two_leaders: u64,
    fenced: u64,
    checkpoints: u64,
    restarts: u64,
    ends: BTreeMap<JobState, u64>,
    job: BTreeMap<(JobState, JobState), u64>,
    executions: BTreeMap<(ExecutionState, ExecutionState), u64>,
    phases: BTreeMap<(CheckpointPhase, CheckpointPhase), u64>,
}

/// How often each transition must be taken.
const LEAST_TRANSITIONS: u64 = 50;

impl Coverage {
    /// Adds one seed.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.events += report.events;
        self.restored += u64::from(report.restored);
        self.refused_stale += u64::from(report.refused_stale);
        self.region_only += u64::from(report.region_only);
        self.rescaled += u64::from(report.rescaled);
        self.rescaled_running += u64::from(report.rescaled_running);
        self.stop_finished += u64::from(report.stop_finished);
        self.noticed += u64::from(report.notices > 0);
        self.drained += u64::from(report.drained > 0);
        self.noticed_again += u64::from(report.noticed_again);
        self.decommissioned += u64::from(report.decommissions > 0);
        self.decommissioned_together += u64::from(report.decommissions_together > 0);
        self.died_before_drained += u64::from(report.died_before_drained > 0);
        self.stopped += u64::from(report.stopped);
        self.leader_crashes += report.leader_crashes;
        self.crashed_in_checkpoint += u64::from(report.crashed_in_checkpoint);
        self.recoveries += report.recoveries;
        self.adopted += u64::from(report.adopted);
        self.adopted_in_part += u64::from(report.adopted_in_part);
        self.two_leaders += u64::from(report.two_leaders);
        self.fenced += u64::from(report.fenced > 0);
        self.checkpoints += report.checkpoints;
        self.restarts += report.restarts;
        if let Some(end) = report.end {
            *self.ends.entry(end).or_default() += 1;
        }
        add(&mut self.job, &report.job);
        add(&mut self.executions, &report.executions);
        add(&mut self.phases, &report.phases);
    }

    /// What is not covered well enough by seeds of `mix`; empty: everything is.
    pub fn shortcomings(&self, mix: Mix) -> Vec<String> {
        let mut missing = Vec::new();
        let mut share = |what: &str, count: u64, least_percent: u64| {
            if count * 100 < self.seeds * least_percent {
                missing.push(format!("only {count} of {} seeds {what}, less than {least_percent} %", self.seeds));
            }
        };
        share("restart a region while others run", self.region_only, 10);
        share("give a TaskManager notice", self.noticed, 20);
        share("drain a TaskManager that is to go", self.drained, 15);
        share("leave a TaskManager that is to go", self.decommissioned, 3);
        share("lose a TaskManager that is to go before that", self.died_before_drained, 1);
        if mix == Mix::Failures {
            share("restore from a checkpoint after a failure", self.restored, 60);
            share("refuse a message of a stale attempt", self.refused_stale, 20);
            share("change the parallelism", self.rescaled, 3);
            share("change the parallelism of a running job", self.rescaled_running, 3);
            share("leave several TaskManagers at once", self.decommissioned_together, 3);
            return missing;
        }
        // A job that a new leader starts from its checkpoint is not counted as restored here.
        share("restore from a checkpoint after a failure", self.restored, 30);
        share("refuse a message of a stale attempt", self.refused_stale, 15);
        share("change the parallelism", self.rescaled, 1);
        share("change the parallelism of a running job", self.rescaled_running, 1);
        share("lose the JobManager during a checkpoint", self.crashed_in_checkpoint, 20);
        share("take all tasks over from an earlier leader", self.adopted, 6);
        share("take some regions over and restart others", self.adopted_in_part, 1);
        share("have two JobManagers lead at the same time", self.two_leaders, 3);
        share("refuse a write of a deposed leader", self.fenced, 1);
        share("stop with a savepoint", self.stopped, 3);
        share("stop under one leader and finish under the next", self.stop_finished * 3, 1);
        share("tell a later leader that a TaskManager is to go", self.noticed_again, 1);
        missing.extend(rare("job", JobState::TRANSITIONS, &self.job));
        missing.extend(rare("execution", ExecutionState::TRANSITIONS, &self.executions));
        missing.extend(rare("checkpoint", CheckpointPhase::TRANSITIONS, &self.phases));
        missing
    }
}

fn add<K: Ord + Copy>(sum: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, count) in more {
        *sum.entry(*key).or_default() += count;
    }
}

fn rare<S: Ord + Copy + fmt::Debug>(
    what: &str,
    all: &[(S, S)],
    taken: &BTreeMap<(S, S), u64>,
) -> impl Iterator<Item = String> {
    all.iter().filter_map(move |step| {
        let count = taken.get(step).copied().unwrap_or(0);
        let (from, to) = step;
        (count < LEAST_TRANSITIONS)
            .then(|| format!("{what} transition {from:?} -> {to:?}: {count} times, less than {LEAST_TRANSITIONS}"))
    })
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |count: u64| count * 100 / self.seeds.max(1);
        writeln!(f, "seeds {}, events {}", self.seeds, self.events)?;
        writeln!(f, "restored from a checkpoint after a failure: {} %", percent(self.restored))?;
        writeln!(f, "refused a message of a stale attempt: {} %", percent(self.refused_stale))?;
        writeln!(f, "restarted a region while others ran on: {} %", percent(self.region_only))?;
        writeln!(f, "changed the parallelism: {} %", percent(self.rescaled))?;
        writeln!(f, "changed the parallelism of a running job: {} %", percent(self.rescaled_running))?;
        writeln!(f, "gave a TaskManager notice: {} %", percent(self.noticed))?;
        writeln!(f, "drained a TaskManager that was to go: {} %", percent(self.drained))?;
        writeln!(f, "left a TaskManager that was to go: {} %", percent(self.decommissioned))?;
        writeln!(f, "left several at once: {} %", percent(self.decommissioned_together))?;
        writeln!(f, "lost one before it was left: {} %", percent(self.died_before_drained))?;
        writeln!(f, "told a later leader of a notice: {} %", percent(self.noticed_again))?;
        writeln!(f, "stopped with a savepoint: {} %", percent(self.stopped))?;
        writeln!(f, "stopped under one leader, told the tasks under the next: {}", self.stop_finished)?;
        writeln!(f, "lost the JobManager during a checkpoint: {} %", percent(self.crashed_in_checkpoint))?;
        writeln!(f, "took all tasks over from an earlier leader: {} %", percent(self.adopted))?;
        writeln!(f, "took some regions over and restarted others: {} %", percent(self.adopted_in_part))?;
        writeln!(f, "had two JobManagers lead at the same time: {} %", percent(self.two_leaders))?;
        writeln!(f, "refused a write of a deposed leader: {} %", percent(self.fenced))?;
        writeln!(f, "crashes of leading JobManagers {}, jobs recovered {}", self.leader_crashes, self.recoveries)?;
        writeln!(f, "checkpoints completed {}, restarts {}", self.checkpoints, self.restarts)?;
        writeln!(f, "ends {:?}", self.ends)?;
        for ((from, to), count) in &self.job {
            writeln!(f, "job {from:?} -> {to:?}: {count}")?;
        }
        for ((from, to), count) in &self.executions {
            writeln!(f, "execution {from:?} -> {to:?}: {count}")?;
        }
        for ((from, to), count) in &self.phases {
            writeln!(f, "checkpoint {from:?} -> {to:?}: {count}")?;
        }
        Ok(())
    }
}
