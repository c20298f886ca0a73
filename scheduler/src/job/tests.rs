//! One job, driven event by event: what is sent to whom, and when.

mod barriers;
mod damaged;
mod decommission;
mod reader;
mod stop;

use hurtig_graph::config::Configuration;
use hurtig_graph::coordinator::{CoordinatorAction, CoordinatorEvent};
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::v1;

use super::*;
use crate::checkpoint::SavepointWish;
use crate::error::SchedulerError;
use crate::simulator::plans::{PlanBuilder, forward, hash};
use crate::slots::TaskManager;
use crate::storage::StorageRequest;
use crate::storage::memory::{MEMORY_DIRECTORY, MemoryStore};

/// A job with its slots and a store that answers at once.
struct Bench {
    job: JobMaster,
    pool: SlotPool,
    store: MemoryStore,
    now: i64,
    /// Everything sent and not looked at yet.
    sent: Vec<(SessionId, ToTask)>,
    savepoints: Vec<Result<String, SchedulerError>>,
    /// Storage calls are kept back.
    hold_storage: bool,
    held: Vec<(u64, StorageRequest)>,
}

const CHECKPOINTS: &[(&str, &str)] =
    &[("execution.checkpointing.interval", "10 s"), ("execution.checkpointing.min-pause", "10 s")];

impl Bench {
    fn new(plan: PlanBuilder, pairs: &[(&str, &str)], slots: &[u32]) -> Bench {
        Self::with_coordinators(plan, pairs, slots, BTreeMap::new())
    }

    fn with_coordinators(
        plan: PlanBuilder,
        pairs: &[(&str, &str)],
        slots: &[u32],
        coordinators: BTreeMap<String, Box<dyn OperatorCoordinator>>,
    ) -> Bench {
        Self::on(MemoryStore::default(), plan, pairs, slots, coordinators)
    }

    fn on(
        store: MemoryStore,
        plan: PlanBuilder,
        pairs: &[(&str, &str)],
        slots: &[u32],
        coordinators: BTreeMap<String, Box<dyn OperatorCoordinator>>,
    ) -> Bench {
        let plan = pairs.iter().fold(plan, |plan, (key, value)| plan.set(key, value)).build();
        let settings = JobSettings::read(&plan.configuration).unwrap();
        let mut pool = SlotPool::default();
        for (i, slots) in slots.iter().enumerate() {
            pool.register(SessionId(i as u64), taskmanager(&format!("tm{i}"), *slots));
        }
        let submission = Submission {
            job: JobId::from_u128(1),
            plan,
            settings,
            coordinators,
            checkpoint_directory: MEMORY_DIRECTORY.into(),
            seed: 1,
        };
        let mut bench = Bench {
            job: JobMaster::new(submission, "first".to_owned(), 0),
            pool,
            store,
            now: 0,
            sent: Vec::new(),
            savepoints: Vec::new(),
            hold_storage: false,
            held: Vec::new(),
        };
        bench.event(JobEvent::Start);
        bench
    }

    fn event(&mut self, event: JobEvent) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.job.handle(event, self.now, &mut self.pool) {
                match action {
                    JobAction::Send { session, message } => self.sent.push((session, *message)),
                    JobAction::Storage { ticket, request } if self.hold_storage => self.held.push((ticket, request)),
                    JobAction::Storage { ticket, request } => {
                        let reply = self.store.apply(&request);
                        events.insert(0, JobEvent::Storage { ticket, reply });
                    }
                    JobAction::SavepointDone { result, .. } => self.savepoints.push(result),
                    _ => {}
                }
            }
        }
    }

    /// Answers the storage calls that were kept back.
    fn release_storage(&mut self) {
        self.hold_storage = false;
        for (ticket, request) in std::mem::take(&mut self.held) {
            let reply = self.store.apply(&request);
            self.event(JobEvent::Storage { ticket, reply });
        }
    }

    fn at(&mut self, now: i64) {
        self.now = now;
        self.event(JobEvent::Tick);
    }

    fn message(&mut self, task: usize, message: impl FnOnce(internal::AttemptId) -> FromTask) {
        let session = self.job.executions[task].slot.unwrap().session;
        let message = message(self.job.attempt_id(task));
        self.event(JobEvent::Task { session, message });
    }

    fn state(&mut self, task: usize, state: &str) {
        self.message(task, |attempt| {
            FromTask::TaskState(internal::TaskStateChanged {
                attempt: Some(attempt),
                state: state.into(),
                error: "for the test".into(),
                restore: None,
                damaged_checkpoint: 0,
            })
        });
    }

    fn all_tasks(&self) -> Vec<usize> {
        (0..self.job.executions.len()).collect()
    }

    fn all_run(&mut self) {
        for task in self.all_tasks() {
            self.state(task, "RUNNING");
        }
        assert_eq!(self.job.state(), JobState::Running);
        self.sent.clear();
    }

    fn ack(&mut self, task: usize, checkpoint: u64) {
        self.message(task, |attempt| {
            let snapshot = Some(v1::SubtaskSnapshot::default());
            let attempt = Some(attempt);
            FromTask::CheckpointAck(internal::CheckpointAck {
                attempt,
                checkpoint_id: checkpoint,
                snapshot,
                ..Default::default()
            })
        });
    }

    /// A whole checkpoint.
    fn checkpoint(&mut self) -> u64 {
        self.at(self.now + 20_000);
        let id = self.job.checkpoints.pending_id().unwrap();
        for task in self.all_tasks() {
            self.ack(task, id);
        }
        assert_eq!(self.job.status().last_checkpoint, id);
        self.sent.clear();
        id
    }

    /// Takes what was sent; heads of deployments as "deploy v[subtask]#attempt".
    fn shown(&mut self) -> Vec<String> {
        let name = |attempt: &Option<internal::AttemptId>| {
            let attempt = attempt.clone().unwrap_or_default();
            format!("{}[{}]#{}", attempt.vertex_id, attempt.subtask, attempt.attempt)
        };
        let show = |(_, message): (SessionId, ToTask)| match message {
            ToTask::Deploy(d) => format!("deploy {}", name(&d.attempt)),
            ToTask::Cancel(c) => format!("cancel {}", name(&c.attempt)),
            ToTask::TriggerCheckpoint(t) => format!("trigger {} {}", t.checkpoint_id, name(&t.attempt)),
            ToTask::CheckpointComplete(c) => format!("complete {}", c.checkpoint_id),
            ToTask::CheckpointAborted(c) => format!("aborted {}", c.checkpoint_id),
            ToTask::Coordinator(m) => format!("to {}: {:?}", name(&m.attempt), m.payload),
            other => format!("{other:?}"),
        };
        std::mem::take(&mut self.sent).into_iter().map(show).collect()
    }

    fn deployments(&mut self) -> Vec<internal::TaskDeployment> {
        let deployment = |(_, message)| match message {
            ToTask::Deploy(deployment) => Some(deployment),
            _ => None,
        };
        std::mem::take(&mut self.sent).into_iter().filter_map(deployment).collect()
    }

    fn lose(&mut self, session: u64) {
        let lost = self.pool.remove(SessionId(session)).unwrap();
        self.event(JobEvent::TaskManagerLost {
            session: SessionId(session),
            resource_id: lost.resource_id,
            reason: "killed".into(),
            announced: lost.notice.is_some(),
        });
    }
}

fn savepoint(request: u64, target: Option<&str>, stop: StopMode) -> JobEvent {
    JobEvent::Savepoint(SavepointWish { request, target: target.map(str::to_owned), nonce: request.to_string(), stop })
}

fn taskmanager(resource_id: &str, slots: u32) -> TaskManager {
    TaskManager::new(&internal::Register {
        resource_id: resource_id.into(),
        data_address: format!("{resource_id}:9"),
        slots,
        ..Default::default()
    })
}

/// Two pipelines of a source and a sink: two regions.
fn pipelines() -> PlanBuilder {
    PlanBuilder::new().source("s", 2).vertex("k", 2).edge(0, 1, forward())
}

/// A source, an exchange, a sink: one region.
fn exchange() -> PlanBuilder {
    PlanBuilder::new().source("s", 2).vertex("k", 2).edge(0, 1, hash())
}

#[test]
fn a_deployment_names_all_channels_with_attempts_and_addresses() {
    let mut bench = Bench::new(exchange(), &[], &[1, 1]);
    let deployments = bench.deployments();
    let find = |id: &str, subtask: u32| {
        let same = |d: &&internal::TaskDeployment| {
            d.attempt.as_ref().is_some_and(|a| a.vertex_id == id && a.subtask == subtask)
        };
        deployments.iter().find(same).unwrap()
    };
    let (source, sink) = (find("s", 1), find("k", 0));
    let consumers: Vec<_> = source.outputs[0].channels.iter().map(|c| c.data_address.as_str()).collect();
    assert_eq!(consumers, ["tm0:9", "tm1:9"]);
    let producers: Vec<_> = sink.inputs[0].channels.iter().map(|c| (c.producer_subtask, c.producer_attempt)).collect();
    assert_eq!(producers, [(0, 0), (1, 0)]);
    assert_eq!(sink.inputs[0].edge_id, source.outputs[0].edge_id);
    assert_eq!((source.outputs[0].consumer_parallelism, source.checkpoint_directory.as_str()), (2, ""));
}

#[test]
fn only_the_regions_that_a_failure_touches_restart() {
    let mut bench = Bench::new(pipelines(), CHECKPOINTS, &[2, 2]);
    bench.all_run();
    let id = bench.checkpoint();
    bench.state(0, "FAILED");
    assert_eq!(bench.job.state(), JobState::Restarting);
    assert_eq!(bench.shown(), ["cancel k[0]#0"]);
    bench.state(2, "CANCELED");
    assert!(bench.shown().is_empty(), "the delay has not passed");
    bench.at(bench.now + 2_000);
    let deployments = bench.deployments();
    assert_eq!(deployments.len(), 2);
    assert!(deployments.iter().all(|d| d.restore_checkpoint_id == id && d.restore.len() == 1));
    bench.state(0, "RUNNING");
    bench.state(2, "RUNNING");
    assert_eq!(bench.job.state(), JobState::Running);
    let attempts: Vec<_> = bench.job.executions.iter().map(|e| e.attempt).collect();
    assert_eq!(attempts, [1, 0, 1, 0]);
    let status = bench.job.status();
    assert_eq!((status.restarts, status.restored_checkpoint), (1, id));
    assert!(status.root_cause.contains("s (1/2) failed: for the test"), "{}", status.root_cause);
}

#[test]
fn the_full_strategy_restarts_everything() {
    let pairs = [CHECKPOINTS, &[("jobmanager.execution.failover-strategy", "full")]].concat();
    let mut bench = Bench::new(pipelines(), &pairs, &[2]);
    bench.all_run();
    bench.state(0, "FAILED");
    assert_eq!(bench.shown(), ["cancel k[0]#0", "cancel s[1]#0", "cancel k[1]#0"]);
}

#[test]
fn without_checkpoints_a_failure_ends_the_job() {
    let mut bench = Bench::new(pipelines(), &[], &[2]);
    bench.all_run();
    bench.state(3, "FAILED");
    assert_eq!(bench.job.state(), JobState::Failing);
    for task in 0..3 {
        bench.state(task, "CANCELED");
    }
    assert_eq!(bench.job.state(), JobState::Failed);
    assert_eq!(bench.pool.free(), 2);
}

#[test]
fn results_that_the_client_has_are_not_repeated() {
    let restart = [("restart-strategy.type", "fixed-delay"), ("restart-strategy.fixed-delay.delay", "1 s")];
    for (rows, expected) in [(&[][..], JobState::Restarting), (&[1][..], JobState::Failing)] {
        let mut bench = Bench::new(exchange(), &restart, &[2]);
        bench.all_run();
        bench.message(3, |attempt| {
            FromTask::Collected(internal::CollectedBatch {
                attempt: Some(attempt),
                ..collect::tests::collected(0, rows)
            })
        });
        bench.state(0, "FAILED");
        assert_eq!(bench.job.state(), expected);
        if expected == JobState::Failing {
            let cause = bench.job.status().root_cause;
            assert!(
                cause.contains("for the test") && cause.contains("set execution.checkpointing.interval"),
                "{cause}"
            );
        }
    }
}

#[test]
fn a_lost_taskmanager_counts_once_and_its_region_waits_for_a_slot() {
    let mut bench = Bench::new(pipelines(), CHECKPOINTS, &[1, 1]);
    bench.all_run();
    let id = bench.checkpoint();
    // A neighbour notices before the JobManager.
    let on_second: Vec<usize> =
        bench.all_tasks().into_iter().filter(|&t| bench.job.executions[t].slot.unwrap().session.0 == 1).collect();
    bench.state(on_second[0], "FAILED");
    bench.lose(1);
    bench.at(bench.now + 5_000);
    assert_eq!(bench.job.state(), JobState::Restarting);
    assert!(bench.deployments().is_empty(), "there is no slot");
    bench.at(bench.now + 60_000);
    assert!(bench.shown().is_empty(), "no checkpoint is triggered meanwhile");
    let mut back = taskmanager("tm1", 1);
    back.local_state.push(internal::LocalState { checkpoint_id: id, ..Default::default() });
    bench.pool.register(SessionId(7), back);
    bench.event(JobEvent::SlotsChanged);
    assert_eq!(bench.deployments().len(), 2);
    let status = bench.job.status();
    assert_eq!(status.restarts, 1);
    assert!(status.root_cause.contains("TaskManager tm1 is lost: killed"), "{}", status.root_cause);
}

#[test]
fn a_restart_goes_where_the_state_is() {
    let mut bench = Bench::new(pipelines(), CHECKPOINTS, &[1, 1]);
    bench.all_run();
    let id = bench.checkpoint();
    let lost = bench.job.executions[1].slot.unwrap().session;
    bench.lose(lost.0);
    bench.pool.register(SessionId(7), taskmanager("empty", 3));
    let mut back = taskmanager("back", 1);
    back.local_state.push(internal::LocalState {
        job_id: bench.job.id().as_str().into(),
        vertex_id: "k".into(),
        subtask: 1,
        checkpoint_id: id,
        key_group_start: 64,
        key_group_end: 127,
        bytes: 10,
    });
    bench.pool.register(SessionId(8), back);
    bench.at(bench.now + 2_000);
    assert_eq!(bench.job.executions[3].taskmanager, "back");
}

#[test]
fn missing_slots_are_counted_in_the_error() {
    let mut bench = Bench::new(pipelines(), &[("slot.request.timeout", "30 s")], &[1]);
    assert_eq!(bench.job.state(), JobState::WaitingForResources);
    bench.at(29_000);
    assert_eq!(bench.job.state(), JobState::WaitingForResources);
    let waiting = bench.job.status().waiting_for;
    assert_eq!(waiting, "needs 2 slots, 1 are free of 1; start TaskManagers or lower parallelism.default");
    bench.at(30_000);
    assert_eq!(bench.job.state(), JobState::Failed);
    assert_eq!(bench.job.status().waiting_for, "");
    assert!(bench.job.status().root_cause.contains("not enough slots: need 2, have 1"));
}

#[test]
fn a_checkpoint_is_announced_only_when_head_names_it() {
    let mut bench = Bench::new(exchange(), CHECKPOINTS, &[2]);
    bench.all_run();
    bench.at(10_000);
    let id = bench.job.checkpoints.pending_id().unwrap();
    assert_eq!(bench.shown(), [format!("trigger {id} s[0]#0"), format!("trigger {id} s[1]#0")]);
    bench.hold_storage = true;
    for task in bench.all_tasks() {
        bench.ack(task, id);
    }
    assert!(matches!(bench.held[..], [(_, StorageRequest::WriteMetadata { .. })]));
    let (ticket, request) = bench.held.remove(0);
    let reply = bench.store.apply(&request);
    bench.event(JobEvent::Storage { ticket, reply });
    assert!(matches!(bench.held[..], [(_, StorageRequest::SwapHead { .. })]));
    assert!(bench.shown().is_empty());
    bench.release_storage();
    assert_eq!(bench.shown(), [format!("complete {id}")]);
    assert_eq!(bench.store.head.as_ref().unwrap().0.retained[0].checkpoint_id, id);
}

#[test]
fn a_restart_waits_until_it_is_known_which_checkpoint_is_the_last() {
    let mut bench = Bench::new(exchange(), CHECKPOINTS, &[2]);
    bench.all_run();
    bench.at(10_000);
    let id = bench.job.checkpoints.pending_id().unwrap();
    bench.hold_storage = true;
    for task in bench.all_tasks() {
        bench.ack(task, id);
    }
    let (ticket, request) = bench.held.remove(0);
    let reply = bench.store.apply(&request);
    bench.event(JobEvent::Storage { ticket, reply });
    bench.state(0, "FAILED");
    for task in 1..4 {
        bench.state(task, "CANCELED");
    }
    bench.at(60_000);
    assert!(bench.deployments().is_empty());
    assert!(bench.job.deadline().is_none_or(|due| due > 60_000), "what is waited for is not a time");
    bench.release_storage();
    let deployments = bench.deployments();
    assert!(deployments.len() == 4 && deployments.iter().all(|d| d.restore_checkpoint_id == id));
}

#[test]
fn a_failure_aborts_the_checkpoint_under_way_and_old_acknowledgements_are_refused() {
    let mut bench = Bench::new(pipelines(), CHECKPOINTS, &[2]);
    bench.all_run();
    bench.at(10_000);
    let id = bench.job.checkpoints.pending_id().unwrap();
    bench.sent.clear();
    bench.ack(0, id);
    bench.state(1, "FAILED");
    assert_eq!(bench.shown(), ["cancel k[1]#0".to_owned(), format!("aborted {id}")]);
    let refused = bench.job.counters().stale_messages;
    bench.ack(1, id);
    assert_eq!(bench.job.counters().stale_messages, refused + 1);
    assert_eq!(bench.job.status().checkpoints_completed, 0);
}

#[test]
fn the_end_of_all_sources_brings_the_last_checkpoint_at_once() {
    let mut bench = Bench::new(exchange(), CHECKPOINTS, &[2]);
    bench.all_run();
    for task in 0..2 {
        bench.message(task, |attempt| FromTask::EndOfData(internal::EndOfData { attempt: Some(attempt) }));
    }
    let id = bench.job.checkpoints.pending_id().unwrap();
    for task in bench.all_tasks() {
        bench.ack(task, id);
    }
    assert!(bench.shown().contains(&format!("complete {id}")));
    for task in bench.all_tasks() {
        bench.state(task, "FINISHED");
    }
    assert_eq!(bench.job.state(), JobState::Finished);
    let head = &bench.store.head.as_ref().unwrap().0;
    assert_eq!((head.job_status.as_str(), head.retained.len()), ("FINISHED", 0));
    assert!(bench.store.metadata.is_empty(), "nothing is retained");
    assert!(bench.job.closed());
}

#[test]
fn a_savepoint_is_written_to_its_folder_and_nothing_is_announced() {
    let mut bench = Bench::new(exchange(), CHECKPOINTS, &[2]);
    bench.all_run();
    bench.event(savepoint(1, Some("s3://b/save/"), StopMode::None));
    let id = bench.job.checkpoints.pending_id().unwrap();
    let targets: Vec<String> = std::mem::take(&mut bench.sent)
        .into_iter()
        .filter_map(|(_, message)| match message {
            ToTask::TriggerCheckpoint(trigger) if trigger.savepoint => Some(trigger.target),
            _ => None,
        })
        .collect();
    assert_eq!(targets, ["s3://b/save/savepoint-000000-1"; 2]);
    for task in bench.all_tasks() {
        bench.ack(task, id);
    }
    assert_eq!(bench.savepoints, [Ok("s3://b/save/savepoint-000000-1".to_owned())]);
    assert!(bench.shown().is_empty());
    bench.event(savepoint(2, None, StopMode::None));
    assert!(bench.savepoints[1].as_ref().unwrap_err().to_string().contains("savepoint-dir"));
}

#[test]
fn failed_checkpoints_restart_the_job_only_beyond_what_is_tolerated() {
    let pairs = [CHECKPOINTS, &[("execution.checkpointing.tolerable-failed-checkpoints", "1")]].concat();
    let mut bench = Bench::new(exchange(), &pairs, &[2]);
    bench.all_run();
    for expected in [JobState::Running, JobState::Restarting] {
        bench.at(bench.now + 30_000);
        let id = bench.job.checkpoints.pending_id().unwrap();
        bench.message(0, |attempt| {
            let reason = "the disk is full".into();
            FromTask::CheckpointDecline(internal::CheckpointDecline {
                attempt: Some(attempt),
                checkpoint_id: id,
                reason,
            })
        });
        assert_eq!(bench.job.state(), expected);
    }
    assert!(bench.job.status().root_cause.contains("the disk is full"));
}

#[test]
fn a_new_jobmanager_goes_on_from_head_and_never_reuses_an_id() {
    let mut bench = Bench::new(exchange(), CHECKPOINTS, &[2]);
    bench.all_run();
    let id = bench.checkpoint();
    let store = bench.store.clone();
    let mut next = Bench::new(exchange(), CHECKPOINTS, &[]);
    next.store = store;
    let submission = Submission {
        job: JobId::from_u128(1),
        plan: exchange().build(),
        settings: next.job.settings.clone(),
        coordinators: BTreeMap::new(),
        checkpoint_directory: MEMORY_DIRECTORY.into(),
        seed: 2,
    };
    next.job = JobMaster::new(submission, "next".to_owned(), 0);
    next.pool.register(SessionId(1), taskmanager("tm", 2));
    next.event(JobEvent::Start);
    assert!(next.deployments().iter().all(|d| d.restore_checkpoint_id == id));
    next.all_run();
    assert!(next.checkpoint() > id);
    // The old one is deposed and fails.
    bench.store = next.store.clone();
    bench.at(bench.now + 30_000);
    let pending = bench.job.checkpoints.pending_id().unwrap();
    for task in bench.all_tasks() {
        bench.ack(task, pending);
    }
    assert_eq!(bench.job.state(), JobState::Failing);
    assert!(bench.job.status().root_cause.contains("another JobManager"));
}

/// Gives each ready subtask its number and reports what it is told.
#[derive(Default)]
struct Numbering {
    told: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
}

impl OperatorCoordinator for Numbering {
    fn handle(&mut self, event: CoordinatorEvent) -> Vec<CoordinatorAction> {
        match event {
            CoordinatorEvent::SubtaskReady { subtask, .. } => {
                vec![CoordinatorAction::Send { subtask, payload: vec![subtask as u8] }]
            }
            CoordinatorEvent::Message { payload, .. } if payload == b"fail" => {
                vec![CoordinatorAction::Fail("no more files".into())]
            }
            _ => Vec::new(),
        }
    }

    fn snapshot(&mut self, checkpoint: u64) -> Vec<u8> {
        self.told.lock().push(format!("snapshot {checkpoint}"));
        vec![checkpoint as u8]
    }

    fn restore(&mut self, state: Option<&[u8]>) -> Result<(), String> {
        self.told.lock().push(format!("restore {state:?}"));
        Ok(())
    }

    fn reset_subtask(&mut self, subtask: u32, checkpoint: u64) -> Vec<CoordinatorAction> {
        self.told.lock().push(format!("reset {subtask} to {checkpoint}"));
        Vec::new()
    }
}

#[test]
fn coordinators_are_reset_with_their_subtasks_and_restored_with_the_job() {
    let numbering = Numbering::default();
    let told = numbering.told.clone();
    let coordinators = BTreeMap::from([("s".to_owned(), Box::new(numbering) as Box<dyn OperatorCoordinator>)]);
    let mut bench = Bench::with_coordinators(pipelines(), CHECKPOINTS, &[2], coordinators);
    bench.sent.clear();
    bench.state(0, "RUNNING");
    assert_eq!(bench.shown(), ["to s[0]#0: [0]"]);
    bench.all_run();
    let id = bench.checkpoint();
    bench.state(1, "FAILED");
    bench.state(3, "CANCELED");
    bench.at(bench.now + 2_000);
    bench.state(1, "RUNNING");
    bench.state(3, "RUNNING");
    assert_eq!(*told.lock(), [format!("snapshot {id}"), format!("reset 1 to {id}")]);
    told.lock().clear();
    bench.message(0, |attempt| {
        let operator_uid = "s".into();
        let payload = b"fail".to_vec();
        FromTask::Coordinator(internal::CoordinatorMessage { attempt: Some(attempt), operator_uid, payload })
    });
    for task in bench.all_tasks() {
        bench.state(task, "CANCELED");
    }
    bench.at(bench.now + 10_000);
    let restored = format!("restore {:?}", Some([id as u8].as_slice()));
    assert_eq!(told.lock()[..2], [restored, format!("snapshot {id}")]);
    assert!(bench.job.status().root_cause.contains("no more files"));
}

#[test]
fn cancelling_takes_back_slots_and_old_spellings_of_keys_work() {
    let pairs = [
        ("execution.checkpointing.interval", "15000"),
        ("restart-strategy", "fixed-delay"),
        ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
    ];
    let mut bench = Bench::new(exchange(), &pairs, &[2]);
    bench.all_run();
    let id = bench.checkpoint();
    bench.event(JobEvent::Cancel);
    assert_eq!(bench.job.state(), JobState::Canceling);
    for task in bench.all_tasks() {
        bench.state(task, "CANCELED");
    }
    assert_eq!((bench.job.state(), bench.pool.free()), (JobState::Canceled, 2));
    let head = &bench.store.head.as_ref().unwrap().0;
    assert_eq!((head.job_status.as_str(), head.retained[0].checkpoint_id), ("CANCELED", id));
    assert_eq!(bench.job.restart.name(), "fixed-delay");
    assert_eq!(JobSettings::read(&Configuration::default()).unwrap().checkpoints.interval_ms, None);
}

#[test]
fn an_adaptive_job_takes_the_slots_that_there_are_and_more_when_they_come() {
    let adaptive: &[(&str, &str)] = &[
        ("jobmanager.scheduler", "adaptive"),
        ("restart-strategy.exponential-delay.max-backoff", "1 s"),
        ("jobmanager.adaptive-scheduler.rescale-trigger.max-delay", "5 min"),
    ];
    let mut bench = Bench::new(exchange(), &[CHECKPOINTS, adaptive].concat(), &[1, 1]);
    bench.all_run();
    let id = bench.checkpoint();
    bench.lose(1);
    for task in bench.all_tasks() {
        bench.state(task, "CANCELED");
    }
    bench.at(bench.now + 2_000);
    assert!(bench.deployments().is_empty(), "the slot may come back");
    bench.at(bench.now + 10_000);
    let deployments = bench.deployments();
    let widths: Vec<_> = deployments.iter().map(|d| (d.parallelism, d.restore_parallelism, d.restore.len())).collect();
    assert_eq!(widths, [(1, 2, 2), (1, 2, 2)]);
    assert!(deployments.iter().all(|d| d.restore_checkpoint_id == id && d.attempt.as_ref().unwrap().attempt == 1));
    bench.all_run();
    bench.pool.register(SessionId(9), taskmanager("new", 1));
    bench.event(JobEvent::SlotsChanged);
    bench.at(bench.now + 31_000);
    let next = bench.job.checkpoints.pending_id().unwrap();
    for task in bench.all_tasks() {
        bench.ack(task, next);
    }
    for task in bench.all_tasks() {
        bench.state(task, "CANCELED");
    }
    let deployments = bench.deployments();
    let again: Vec<_> = deployments.iter().map(|d| (d.parallelism, d.restore_checkpoint_id)).collect();
    assert_eq!(again, [(2, next); 4]);
    let attempts: Vec<_> = bench.job.executions.iter().map(|e| e.attempt).collect();
    assert_eq!(attempts, [2, 1, 2, 1]);
}

#[test]
fn failures_of_one_restart_are_one_entry_of_the_history_with_the_lost_taskmanager_as_its_root() {
    let pairs = [CHECKPOINTS, &[("web.exception-history-size", "1")]].concat();
    let mut bench = Bench::new(exchange(), &pairs, &[2, 2]);
    bench.all_run();
    bench.checkpoint();
    let on_second: Vec<usize> =
        bench.all_tasks().into_iter().filter(|&t| bench.job.executions[t].slot.unwrap().session.0 == 1).collect();
    let neighbour = bench.all_tasks().into_iter().find(|task| !on_second.contains(task)).unwrap();
    bench.state(neighbour, "FAILED");
    bench.lose(1);
    let [root] = &bench.job.details().failures[..] else { panic!("one entry") };
    assert!(root.message.contains("TaskManager tm1 is lost") && root.taskmanager == "tm1", "{root:?}");
    let [beside] = &root.concurrent[..] else { panic!("one beside it: {root:?}") };
    assert!(beside.message.contains("for the test") && beside.taskmanager == "tm0", "{beside:?}");
    for task in bench.all_tasks() {
        if bench.job.executions[task].state.is_live() {
            bench.state(task, "CANCELED");
        }
    }
    bench.at(bench.now + 5_000);
    bench.pool.register(SessionId(7), taskmanager("tm2", 2));
    bench.event(JobEvent::SlotsChanged);
    bench.all_run();
    let [report] = &bench.job.details().restarts[..] else { panic!("one restart") };
    assert_eq!((report.regions, report.rescale, report.checkpoint_id > 0), (1, false, true));
    assert!(report.ended_ms > 0 && report.deployed_ms >= report.waited_ms && report.running_ms >= 5_000, "{report:?}");
    bench.at(bench.now + 100_000);
    bench.state(0, "FAILED");
    let details = bench.job.details();
    assert!(details.failures_truncated && details.failures.len() == 1 && details.failures[0].concurrent.is_empty());
}

fn requirements(parallelism: u32) -> v1::RescaleJobRequest {
    v1::RescaleJobRequest { parallelism, ..Default::default() }
}

#[test]
fn changed_requirements_rescale_after_the_next_checkpoint_when_the_slots_are_there() {
    let pairs = [CHECKPOINTS, &[("jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling", "0 s")]].concat();
    let mut bench = Bench::new(exchange(), &pairs, &[2]);
    bench.all_run();
    bench.checkpoint();
    bench.job.require(&requirements(3)).unwrap();
    bench.event(JobEvent::SlotsChanged);
    bench.checkpoint();
    assert_eq!(bench.job.state(), JobState::Running, "a slot is missing");
    bench.pool.register(SessionId(5), taskmanager("new", 1));
    bench.event(JobEvent::SlotsChanged);
    assert_eq!(bench.job.state(), JobState::Running);
    let id = bench.checkpoint_and_rescale();
    let deployments = bench.deployments();
    assert_eq!(deployments.len(), 6);
    assert!(deployments.iter().all(|d| d.restore_checkpoint_id == id && d.restore.len() == 2));
    bench.all_run();
    let bounds: Vec<_> = bench.job.details().vertices.iter().map(|v| (v.lower_bound, v.upper_bound)).collect();
    assert_eq!(bounds, [(1, 3), (1, 3)]);
    bench.job.require(&requirements(1)).unwrap();
    bench.event(JobEvent::SlotsChanged);
    bench.checkpoint_and_rescale();
    assert_eq!(bench.deployments().len(), 2);
    bench.all_run();
    assert_eq!(bench.pool.free(), 2, "slots that are not needed are free");
    let reports = bench.job.details().restarts;
    assert!(reports.len() == 2 && reports.iter().all(|r| r.rescale && r.running_ms > 0), "{reports:?}");
    assert!(bench.job.require(&requirements(129)).unwrap_err().to_string().contains("max parallelism, 128"));
}

#[test]
fn a_savepoint_that_waits_for_the_checkpoint_which_a_rescale_waits_for_is_refused_at_once() {
    let pairs = [CHECKPOINTS, &[("jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling", "0 s")]].concat();
    let mut bench = Bench::new(exchange(), &pairs, &[3]);
    bench.all_run();
    bench.job.require(&requirements(3)).unwrap();
    bench.event(JobEvent::SlotsChanged);
    bench.at(bench.now + 20_000);
    let id = bench.job.checkpoints.pending_id().unwrap();
    bench.event(savepoint(1, Some("memory://s"), StopMode::None));
    bench.sent.clear();
    for task in bench.all_tasks() {
        bench.ack(task, id);
    }
    assert_eq!(bench.job.state(), JobState::Restarting);
    assert_eq!(bench.job.checkpoints.pending_id(), None, "nobody would acknowledge it");
    assert!(matches!(&bench.savepoints[..], [Err(_)]), "{:?}", bench.savepoints);
    assert!(!bench.shown().iter().any(|message| message.starts_with("trigger")));
    for task in bench.all_tasks() {
        bench.state(task, "CANCELED");
    }
    bench.all_run();
    bench.checkpoint();
}

impl Bench {
    /// A checkpoint after which the job restarts with other parallelism.
    fn checkpoint_and_rescale(&mut self) -> u64 {
        self.at(self.now + 20_000);
        let id = self.job.checkpoints.pending_id().unwrap();
        for task in self.all_tasks() {
            self.ack(task, id);
        }
        assert_eq!(self.job.state(), JobState::Restarting);
        for task in self.all_tasks() {
            self.state(task, "CANCELED");
        }
        id
    }
}

#[test]
fn a_job_in_reactive_mode_is_as_wide_as_the_slots_at_once_and_takes_no_requirements() {
    let mut bench = Bench::new(exchange(), &[CHECKPOINTS, &[("scheduler-mode", "reactive")]].concat(), &[3]);
    let widths = |bench: &mut Bench| bench.deployments().iter().map(|d| d.parallelism).collect::<Vec<_>>();
    assert_eq!(widths(&mut bench), [3; 6]);
    bench.all_run();
    assert!(bench.job.require(&requirements(2)).unwrap_err().to_string().contains("reactive"));
    let settings = JobSettings::read(&bench.job.topology.plan.configuration).unwrap();
    assert_eq!((settings.stabilization_ms, settings.slot_wait_ms), (0, i64::MAX as u64));
}

#[test]
fn a_region_without_a_slot_waits_while_the_others_run_and_then_the_whole_job_takes_what_there_is() {
    let adaptive: &[(&str, &str)] = &[("jobmanager.scheduler", "adaptive")];
    let mut bench = Bench::new(pipelines(), &[CHECKPOINTS, adaptive].concat(), &[1, 1]);
    bench.all_run();
    let id = bench.checkpoint();
    let on_second: Vec<usize> =
        bench.all_tasks().into_iter().filter(|&t| bench.job.executions[t].slot.unwrap().session.0 == 1).collect();
    bench.lose(1);
    assert_eq!((bench.job.state(), bench.job.status().state.as_str()), (JobState::Restarting, "RESTARTING"));
    bench.at(bench.now + 5_000);
    bench.at(bench.now + 5_000);
    assert!(bench.shown().is_empty(), "neither a deployment, nor a cancellation, nor a checkpoint");
    for task in bench.all_tasks() {
        let expected = if on_second.contains(&task) { ExecutionState::Failed } else { ExecutionState::Running };
        assert_eq!(bench.job.executions[task].state, expected);
    }
    // The stabilisation timeout counts from the time at which the region could have started.
    bench.at(bench.now + 10_000);
    let cancelled = bench.shown();
    assert_eq!(cancelled.len(), 2, "{cancelled:?}");
    for task in bench.all_tasks().into_iter().filter(|task| !on_second.contains(task)) {
        bench.state(task, "CANCELED");
    }
    let deployments = bench.deployments();
    assert!(deployments.len() == 2 && deployments.iter().all(|d| d.restore_checkpoint_id == id && d.parallelism == 1));
    bench.all_run();
}

#[test]
fn least_bounds_are_waited_for() {
    let adaptive: &[(&str, &str)] = &[("jobmanager.scheduler", "adaptive")];
    let mut bench = Bench::new(pipelines(), &[CHECKPOINTS, adaptive].concat(), &[1]);
    let bounds = |id: &str| v1::VertexRequirements { vertex_id: id.into(), lower_bound: 2, upper_bound: 2 };
    let request = v1::RescaleJobRequest { vertices: vec![bounds("s"), bounds("k")], ..Default::default() };
    bench.job.require(&request).unwrap();
    bench.event(JobEvent::SlotsChanged);
    bench.at(60_000);
    assert_eq!(bench.job.state(), JobState::WaitingForResources);
    bench.pool.register(SessionId(5), taskmanager("new", 1));
    bench.event(JobEvent::SlotsChanged);
    assert_eq!(bench.deployments().len(), 4);
}
