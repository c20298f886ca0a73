//! TaskManagers that are to go: the job's tasks leave them.
//!
//! [`super::leaving`] decides when. The restart is that of a failure or a rescale, but planned: it comes
//! after a checkpoint taken for it, no restart strategy counts it, and no slot of such a TaskManager is
//! used. Where a failure restarts a region that shares a slot there with another one, both go.

use std::collections::{BTreeMap, BTreeSet};

use hurtig_proto::v1;

use super::JobMaster;
use super::adaptive::Possible;
use super::leaving::Times;
use super::requirements::widths;
use super::state::{ExecutionState, JobState};
use super::topology::SlotKey;
use crate::simulator::Bug;
use crate::slots::{Notice, SessionId, SlotPool};

impl JobMaster {
    /// Tasks that keep the job on TaskManagers that are to go: those that live there, and those that have
    /// finished there and may not have sent everything to consumers that live.
    fn tasks_to_leave(&self, pool: &SlotPool) -> Vec<usize> {
        if !pool.any_leaving() {
            return Vec::new();
        }
        let tasks = || 0..self.executions.len();
        let live = |task: &usize| self.executions[*task].state.is_live();
        let feeding: BTreeSet<usize> =
            tasks().filter(live).flat_map(|task| self.topology.producers(task)).copied().collect();
        let leaving = |task: &usize| {
            let execution = &self.executions[*task];
            let needed = live(task) || execution.state == ExecutionState::Finished && feeding.contains(task);
            needed && execution.slot.is_some_and(|slot| pool.is_leaving(slot.session))
        };
        tasks().filter(leaving).collect()
    }

    /// The TaskManagers that are to go and that tasks keep the job on.
    fn to_leave(&self, pool: &SlotPool) -> BTreeMap<SessionId, Notice> {
        let slots = self.tasks_to_leave(pool).into_iter().filter_map(|task| self.executions[task].slot);
        slots.filter_map(|slot| Some((slot.session, pool.get(slot.session)?.notice.clone()?))).collect()
    }

    /// Whether tasks keep the job on a TaskManager that is to go.
    pub(super) fn has_to_leave(&self, pool: &SlotPool) -> bool {
        !self.tasks_to_leave(pool).is_empty()
    }

    /// Slots that the job has or can have, without those that it has to leave.
    pub(super) fn slots_available(&self, pool: &SlotPool) -> usize {
        self.slots.values().filter(|slot| !pool.is_leaving(slot.session)).count() + pool.free()
    }

    /// Of a job that runs: looks whether there are TaskManagers to leave, and leaves them.
    pub(super) fn leave_if_due(&mut self, pool: &mut SlotPool, now: i64) {
        self.give_back_left_slots(pool);
        // One that was stopped ends, and is never to run again.
        let notices = if self.is_stopped() { BTreeMap::new() } else { self.to_leave(pool) };
        self.leaving.update(&notices, now);
        if notices.is_empty() {
            return;
        }
        if self.leaving.wants_checkpoint() {
            self.checkpoints.demand(now);
        }
        let possible = self.possible_elsewhere(pool);
        // Without a checkpoint it stays to the end: to move would be to begin anew.
        if self.leaving.decide(possible, now) && self.checkpoints.latest().is_some() {
            self.leave(&notices, pool, now);
        }
    }

    /// What slots elsewhere allow.
    fn possible_elsewhere(&self, pool: &SlotPool) -> Possible {
        let same = self.slots_to_leave(pool).len() <= pool.free();
        match self.better_plan(pool) {
            Some(plan) => Possible { sufficient: true, desired: widths(&plan) == widths(&self.requirements.plan) },
            None => Possible { sufficient: same, desired: same },
        }
    }

    /// Slots that it is kept in on TaskManagers that are to go.
    fn slots_to_leave(&self, pool: &SlotPool) -> BTreeSet<SlotKey> {
        self.tasks_to_leave(pool).into_iter().map(|task| self.topology.slot_key(task)).collect()
    }

    fn leave(&mut self, notices: &BTreeMap<SessionId, Notice>, pool: &mut SlotPool, now: i64) {
        let names: Vec<String> =
            notices.keys().filter_map(|session| Some(pool.get(*session)?.resource_id.clone())).collect();
        let sources: BTreeSet<&str> = notices.values().map(|notice| notice.source.as_str()).collect();
        let sources = sources.into_iter().collect::<Vec<_>>().join(", ");
        let cause = match &names[..] {
            [one] => format!("TaskManager {one} is decommissioned ({sources})"),
            _ => format!("TaskManagers {} are decommissioned ({sources})", names.join(", ")),
        };
        tracing::info!(job = %self.id, cause, "the job moves");
        self.counters.decommissions += 1;
        self.counters.decommissions_together += u64::from(names.len() > 1);
        let times = self.leaving.leave();
        match self.better_plan(pool) {
            Some(plan) => self.begin_rescaling(&cause, plan, now),
            None => {
                self.restarts += 1;
                self.history.restart(&cause, 0, false, now);
                let regions = self.regions_to_leave(pool);
                self.restart_regions(&regions, i64::MIN, now);
                self.advance_again = true;
            }
        }
        self.leaves = true;
        self.history.decommission(decommission(names, times));
    }

    /// The regions of those tasks.
    fn regions_to_leave(&self, pool: &SlotPool) -> Vec<usize> {
        let regions = self.tasks_to_leave(pool).into_iter().map(|task| self.topology.tasks[task].region);
        regions.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Before regions are deployed again: none may come onto a TaskManager that is to go. What is still
    /// there in a slot that one of them needs restarts, too; in a planned restart all that is there.
    pub(super) fn leave_with_restarting(&mut self, pool: &mut SlotPool, now: i64) {
        self.give_back_left_slots(pool);
        if !self.has_to_leave(pool) {
            return;
        }
        let ready = |(region, time): (&usize, &i64)| *time == i64::MIN && self.has_left_slot(*region, pool);
        if !self.leaves && !self.restarting.iter().any(ready) {
            return;
        }
        let more = self.regions_to_leave(pool);
        let more: Vec<usize> = more.into_iter().filter(|region| !self.restarting.contains_key(region)).collect();
        if !more.is_empty() {
            self.restart_regions(&more, i64::MIN, now);
            self.note_left(pool);
        }
    }

    /// Whether a slot of a region is still one on a TaskManager that is to go: of a task that shares it and
    /// has not ended yet.
    pub(super) fn has_left_slot(&self, region: usize, pool: &SlotPool) -> bool {
        if self.bug == Some(Bug::SlotsOfLeavingTaskManagers) {
            return false;
        }
        let left = |task: &usize| {
            self.slots.get(&self.topology.slot_key(*task)).is_some_and(|slot| pool.is_leaving(slot.session))
        };
        self.topology.regions[region].iter().any(left)
    }

    /// The restart under way leaves the TaskManagers of `pool` that are to go, too.
    fn note_left(&mut self, pool: &SlotPool) {
        let notices = self.to_leave(pool);
        let names = notices.keys().filter_map(|session| Some(pool.get(*session)?.resource_id.clone())).collect();
        let since = notices.values().map(|notice| notice.since_ms).min().unwrap_or(0);
        self.history.decommission(decommission(names, Times { notice_ms: since, ..Times::default() }));
    }

    /// Slots on TaskManagers that are to go in which nothing keeps the job are the job's no more.
    fn give_back_left_slots(&mut self, pool: &mut SlotPool) {
        let kept = self.bug == Some(Bug::SlotsOfLeavingTaskManagers);
        if kept || !self.slots.values().any(|slot| pool.is_leaving(slot.session)) {
            return;
        }
        let in_use = self.slots_to_leave(pool);
        let left: Vec<SlotKey> = self
            .slots
            .iter()
            .filter(|(key, slot)| pool.is_leaving(slot.session) && !in_use.contains(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in left {
            if let Some(slot) = self.slots.remove(&key) {
                pool.free_slot(slot);
            }
        }
    }

    /// A checkpoint has failed: whether because the job does not run any more decides what follows.
    pub(super) fn leaving_checkpoint_failed(&mut self, id: u64) {
        let retry = self.state != JobState::Running || self.checkpoints.latest().is_none();
        self.leaving.failed(id, retry);
    }

    /// What a job that stays on TaskManagers that are to go is waiting for; empty: nothing.
    pub(super) fn waits_to_leave(&self) -> String {
        if !self.leaving.is_open() || self.state != JobState::Running {
            return String::new();
        }
        if !self.checkpoints.enabled() {
            let key = hurtig_graph::config::keys::CHECKPOINTING_INTERVAL.key;
            return format!(
                "has tasks on a TaskManager that is to go and stays there: it has no checkpoints, set {key}"
            );
        }
        "has tasks on a TaskManager that is to go; waits for a checkpoint, or for slots elsewhere: start TaskManagers"
            .to_owned()
    }
}

fn decommission(taskmanagers: Vec<String>, times: Times) -> v1::Decommission {
    v1::Decommission {
        taskmanagers,
        notice_time_ms: times.notice_ms,
        checkpoint_id: times.checkpoint,
        checkpoint_triggered_ms: times.triggered_ms,
        checkpoint_completed_ms: times.completed_ms,
        slots_time_ms: times.slots_ms,
    }
}
