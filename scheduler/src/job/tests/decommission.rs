//! Jobs on TaskManagers that are to go.

use super::*;
use crate::slots::Notice;

/// Two regions, each on a TaskManager of one slot, and a third TaskManager.
fn running(pairs: &[(&str, &str)], slots: &[u32]) -> Bench {
    let none: &[(&str, &str)] = &[("restart-strategy.type", "none")];
    let mut bench = Bench::new(pipelines(), &[CHECKPOINTS, none, pairs].concat(), slots);
    bench.all_run();
    bench
}

impl Bench {
    fn notice(&mut self, session: u64, deadline_ms: Option<i64>) {
        let notice = Notice { source: "SIGTERM".into(), since_ms: self.now, deadline_ms };
        self.pool.decommission(SessionId(session), notice);
        self.event(JobEvent::SlotsChanged);
    }

    fn tasks_on(&self, session: u64) -> Vec<usize> {
        let on = |task: &usize| self.job.executions[*task].slot.is_some_and(|slot| slot.session.0 == session);
        self.all_tasks().into_iter().filter(on).collect()
    }

    fn pending(&self) -> u64 {
        self.job.checkpoints.pending_id().expect("a checkpoint is under way")
    }

    fn ack_all(&mut self) -> u64 {
        let id = self.pending();
        for task in self.all_tasks() {
            self.ack(task, id);
        }
        id
    }
}

#[test]
fn the_regions_there_move_with_a_checkpoint_that_no_pause_holds_back_and_no_strategy_counts() {
    let mut bench = running(&[], &[1, 1, 1]);
    bench.checkpoint();
    let leaving = bench.tasks_on(0);
    bench.notice(0, None);
    let id = bench.ack_all();
    assert_eq!(bench.job.state(), JobState::Restarting);
    for task in &leaving {
        bench.state(*task, "CANCELED");
    }
    let deployments = bench.deployments();
    assert!(deployments.len() == 2 && deployments.iter().all(|d| d.restore_checkpoint_id == id), "{deployments:?}");
    assert!(leaving.iter().all(|task| bench.job.executions[*task].slot.unwrap().session.0 == 2));
    assert_eq!(bench.pool.take_drained(), [SessionId(0)]);
    for task in leaving {
        bench.state(task, "RUNNING");
    }
    assert_eq!(bench.job.state(), JobState::Running);
    let details = bench.job.details();
    let status = details.status.unwrap();
    assert_eq!((status.restarts, status.root_cause.as_str(), details.failures.len()), (1, "", 0));
    let [report] = &details.restarts[..] else { panic!("one restart") };
    let left = report.decommission.as_ref().unwrap();
    assert_eq!((left.taskmanagers.clone(), left.checkpoint_id), (vec!["tm0".to_owned()], id));
    assert!(report.cause.contains("tm0 is decommissioned (SIGTERM)") && report.regions == 1, "{report:?}");
}

#[test]
fn a_job_without_slots_elsewhere_runs_on_until_the_time_is_nearly_up() {
    let mut bench = running(&[], &[1, 1]);
    bench.checkpoint();
    let (start, leaving) = (bench.now, bench.tasks_on(0));
    bench.notice(0, Some(start + 60_000));
    let id = bench.ack_all();
    bench.at(start + 49_999);
    assert_eq!(bench.job.state(), JobState::Running);
    assert!(bench.job.status().waiting_for.contains("to go"), "{}", bench.job.status().waiting_for);
    bench.at(start + 50_000);
    assert_eq!(bench.job.state(), JobState::Restarting);
    for task in leaving {
        bench.state(task, "CANCELED");
    }
    assert_eq!(bench.pool.take_drained(), [SessionId(0)]);
    bench.pool.register(SessionId(5), taskmanager("new", 1));
    bench.event(JobEvent::SlotsChanged);
    let last = bench.job.status().last_checkpoint;
    assert!(last >= id && bench.deployments().iter().all(|d| d.restore_checkpoint_id == last));
}

#[test]
fn an_adaptive_job_takes_fewer_slots_at_the_end_of_the_window() {
    let adaptive: &[(&str, &str)] = &[
        ("jobmanager.scheduler", "adaptive"),
        ("jobmanager.adaptive-scheduler.combined-restart.enabled", "true"),
        ("jobmanager.adaptive-scheduler.combined-restart.window-interval", "40000"),
    ];
    let mut bench = running(adaptive, &[1, 1]);
    bench.notice(0, None);
    bench.ack_all();
    let start = bench.now;
    bench.at(start + 39_999);
    assert_eq!(bench.job.state(), JobState::Running);
    bench.at(start + 40_000);
    assert_eq!(bench.job.state(), JobState::Restarting);
    for task in bench.all_tasks() {
        bench.state(task, "CANCELED");
    }
    assert!(bench.deployments().iter().all(|d| d.parallelism == 1));
    bench.all_run();
    let [report] = &bench.job.details().restarts[..] else { panic!("one restart") };
    assert!(report.rescale && report.decommission.is_some(), "{report:?}");
}

#[test]
fn a_checkpoint_for_it_that_fails_neither_fails_the_job_nor_is_waited_for() {
    let mut bench = running(&[], &[1, 1, 1]);
    let before = bench.checkpoint();
    bench.notice(0, None);
    let id = bench.pending();
    bench.message(3, |attempt| {
        let (attempt, reason) = (Some(attempt), "the disk is full".to_owned());
        FromTask::CheckpointDecline(internal::CheckpointDecline { attempt, checkpoint_id: id, reason })
    });
    assert_eq!(bench.job.state(), JobState::Restarting, "with the checkpoint before");
    for task in bench.tasks_on(0) {
        bench.state(task, "CANCELED");
    }
    assert!(bench.deployments().iter().all(|d| d.restore_checkpoint_id == before));
    assert!(bench.job.details().failures.is_empty());
}

#[test]
fn without_a_completed_checkpoint_it_stays() {
    let mut bench = running(&[], &[1, 1, 1]);
    bench.notice(0, Some(40_000));
    let id = bench.pending();
    bench.message(3, |attempt| {
        let (attempt, reason) = (Some(attempt), "the disk is full".to_owned());
        FromTask::CheckpointDecline(internal::CheckpointDecline { attempt, checkpoint_id: id, reason })
    });
    bench.at(39_000);
    assert_eq!(bench.job.state(), JobState::Running);
    assert!(bench.pending() > id, "another one is taken");
    bench.ack_all();
    assert_eq!(bench.job.state(), JobState::Restarting);
}

#[test]
fn the_loss_of_one_that_was_to_go_is_counted_only_where_nothing_is_complete() {
    for (complete, expected) in [(true, JobState::Deploying), (false, JobState::Failing)] {
        let mut bench = running(&[], &[1, 1, 1]);
        if complete {
            bench.checkpoint();
        }
        bench.notice(0, None);
        bench.lose(0);
        assert_eq!(bench.job.state(), expected);
        let details = bench.job.details();
        assert!(details.failures[0].message.contains("tm0 was decommissioned"), "{:?}", details.failures);
        assert_eq!(details.restarts.first().is_some_and(|r| r.decommission.is_some()), complete);
    }
}

#[test]
fn a_restart_for_another_reason_leaves_the_shared_slot_with_both_regions() {
    // Two regions of forward pipelines share each slot.
    let plan = PlanBuilder::new().source("s", 1).vertex("k", 1).edge(0, 1, forward()).source("t", 1).vertex("l", 1);
    let mut bench = Bench::new(plan.edge(2, 3, forward()), CHECKPOINTS, &[1, 1]);
    bench.all_run();
    bench.checkpoint();
    let (away, task) = (bench.job.executions[0].slot.unwrap().session.0, 0);
    bench.state(task, "FAILED");
    bench.state(1, "CANCELED");
    bench.notice(away, None);
    bench.sent.clear();
    bench.at(bench.now + 5_000);
    assert_eq!(bench.shown(), ["cancel t[0]#0", "cancel l[0]#0"], "nothing is deployed there");
    for task in [2, 3] {
        bench.state(task, "CANCELED");
    }
    let deployments = bench.deployments();
    assert_eq!(deployments.len(), 4);
    assert!(bench.all_tasks().iter().all(|task| bench.job.executions[*task].slot.unwrap().session.0 != away));
    bench.all_run();
    assert_eq!(bench.job.status().restarts, 1);
}
