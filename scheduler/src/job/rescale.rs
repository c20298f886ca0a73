//! Running with other parallelism than planned, as the slots allow (`jobmanager.scheduler:
//! Adaptive`).
//!
//! Down: when slots have been missing for the stabilisation timeout and fewer suffice, the whole job
//! starts, or restarts from the last completed checkpoint, with less parallelism. Up: when there are
//! slots again, after a cooldown, the next completed checkpoint (without checkpoints: at once) is
//! followed by a restart with more. Neither counts for the restart strategy. Every vertex has the
//! lower bound 1 and its planned parallelism as the upper bound.

use std::collections::BTreeMap;

use hurtig_graph::job::{JobPlan, PlanVertex};

use super::state::JobState;
use super::topology::{TaskRef, Topology};
use super::{Execution, JobMaster};
use crate::slots::SlotPool;

/// The slots that each slot sharing group gets out of `available`, by Flink's rule; `None`: not even
/// one for each.
pub(super) fn share_slots(plan: &JobPlan, available: u32) -> Option<BTreeMap<String, u32>> {
    let mut upper: BTreeMap<&str, u32> = BTreeMap::new();
    for vertex in &plan.vertices {
        let bound = upper.entry(&vertex.slot_sharing_group).or_default();
        *bound = (*bound).max(vertex.parallelism);
    }
    let mut groups: Vec<(&str, u32)> = upper.into_iter().collect();
    let mut spare = available.checked_sub(groups.len() as u32)?;
    groups.sort_by_key(|(_, bound)| *bound);
    let mut shares = BTreeMap::new();
    for (i, (group, bound)) in groups.iter().enumerate() {
        let extra = (spare / (groups.len() - i) as u32).min(bound - 1);
        spare -= extra;
        shares.insert((*group).to_owned(), 1 + extra);
    }
    Some(shares)
}

/// `plan` with no vertex wider than the slots of its group.
pub(super) fn limited(plan: &JobPlan, shares: &BTreeMap<String, u32>) -> JobPlan {
    let limit = |vertex: &PlanVertex| {
        let share = shares.get(&vertex.slot_sharing_group).copied().unwrap_or(1);
        PlanVertex { parallelism: vertex.parallelism.min(share), ..vertex.clone() }
    };
    JobPlan { vertices: plan.vertices.iter().map(limit).collect(), ..plan.clone() }
}

impl JobMaster {
    /// The plan that the slots of now allow, if it is another one than runs.
    fn better_plan(&self, pool: &SlotPool) -> Option<JobPlan> {
        let partly_finished = self.checkpoints.latest().is_some_and(|latest| {
            latest.metadata.vertices.iter().flat_map(|v| &v.subtasks).any(|subtask| subtask.finished)
        });
        // Results that went to the client without checkpoints would come again.
        let given_out = (0..self.executions.len()).any(|task| self.collect.has_given_out(task));
        if !self.settings.adaptive || partly_finished || given_out {
            return None;
        }
        let available = self.slots.len() + pool.free();
        let shares = share_slots(&self.planned, available as u32)?;
        let plan = limited(&self.planned, &shares);
        let widths = |plan: &JobPlan| plan.vertices.iter().map(|v| v.parallelism).collect::<Vec<_>>();
        (widths(&plan) != widths(&self.topology.plan)).then_some(plan)
    }

    /// Slots have been missing since `since`. True: the job takes fewer.
    pub(super) fn rescale_down(&mut self, since: i64, pool: &mut SlotPool, now: i64) -> bool {
        if self.rescaling.is_some() || now < since.saturating_add(self.settings.stabilization_ms as i64) {
            return false;
        }
        let Some(plan) = self.better_plan(pool) else { return false };
        tracing::info!(job = %self.id, "the job goes on with the slots that there are");
        self.slots_missing_since_ms = None;
        match self.state {
            JobState::WaitingForResources => {
                self.change_plan(plan, pool);
                self.advance_again = true;
            }
            _ => self.begin_rescaling(plan, now),
        }
        true
    }

    /// A checkpoint has completed, or slots have come: perhaps the job can run wider.
    pub(super) fn rescale_up(&mut self, pool: &SlotPool, now: i64) {
        let cool = now >= self.running_since_ms.saturating_add(self.settings.cooldown_ms as i64);
        if self.state != JobState::Running || !cool || self.checkpoints.in_doubt() {
            return;
        }
        if let Some(plan) = self.better_plan(pool) {
            tracing::info!(job = %self.id, "the job restarts to use the slots that have come");
            self.begin_rescaling(plan, now);
        }
    }

    fn begin_rescaling(&mut self, plan: JobPlan, now: i64) {
        self.rescaling = Some(plan);
        self.global_restart = true;
        self.restarts += 1;
        let all: Vec<usize> = (0..self.topology.regions.len()).collect();
        self.restart_regions(&all, i64::MIN, now);
        self.advance_again = true;
    }

    /// All tasks have ended: puts the new plan in the place of the old.
    pub(super) fn finish_rescaling(&mut self, pool: &mut SlotPool) {
        let Some(plan) = self.rescaling.take() else { return };
        // Slots may have gone meanwhile.
        let plan = self.better_plan(pool).unwrap_or(plan);
        self.change_plan(plan, pool);
        self.restarting = (0..self.topology.regions.len()).map(|region| (region, i64::MIN)).collect();
    }

    pub(super) fn change_plan(&mut self, plan: JobPlan, pool: &mut SlotPool) {
        self.counters.rescales += 1;
        for task in 0..self.executions.len() {
            self.collect.reset(task);
        }
        for slot in std::mem::take(&mut self.slots).into_values() {
            pool.free_slot(slot);
        }
        for (task, execution) in self.executions.iter().enumerate().filter(|(_, e)| e.deployed) {
            let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
            self.attempts.insert((vertex, subtask), execution.attempt);
        }
        self.topology = Topology::new(plan);
        let execution = |task: &TaskRef| match self.attempts.get(&(task.vertex, task.subtask)) {
            Some(attempt) => Execution { attempt: *attempt, deployed: true, ..Execution::new() },
            None => Execution::new(),
        };
        self.executions = self.topology.tasks.iter().map(execution).collect();
        self.sources_ended.clear();
        self.local_state.clear();
        self.pending_local_state.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::plans::{PlanBuilder, forward};

    fn plan() -> JobPlan {
        let mut plan = PlanBuilder::new().source("s", 4).vertex("k", 4).source("t", 2).edge(0, 1, forward()).build();
        plan.vertices[2].slot_sharing_group = "other".into();
        plan
    }

    #[test]
    fn slots_are_shared_by_flinks_rule() {
        let shares = |available| share_slots(&plan(), available).map(|shares| (shares["default"], shares["other"]));
        assert_eq!([shares(1), shares(2), shares(3)], [None, Some((1, 1)), Some((2, 1))]);
        assert_eq!([shares(5), shares(6), shares(9)], [Some((3, 2)), Some((4, 2)), Some((4, 2))]);
    }

    #[test]
    fn no_vertex_is_wider_than_its_share() {
        let plan = plan();
        let narrow = limited(&plan, &share_slots(&plan, 4).unwrap());
        assert_eq!(narrow.vertices.iter().map(|v| v.parallelism).collect::<Vec<_>>(), [2, 2, 2]);
    }
}
