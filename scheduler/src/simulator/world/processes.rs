//! What processes do: start, connect, run tasks, obey the JobManager.

use hurtig_graph::attempt_record::AttemptRecord;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use rand::Rng;

use super::{Happening, Link, Outcome, World};
use crate::simulator::Bug;
use crate::simulator::process::Notice;
use crate::simulator::task::{Effect, Task, TaskId, TaskState, encode};
use crate::simulator::{enumerator, invariants};
use crate::slots::SessionId;

impl World {
    pub(super) fn start_process(&mut self, process: usize) -> Outcome {
        let disk_lost = self.rng.random_bool(0.3);
        let p = &mut self.processes[process];
        if p.alive {
            return Ok(());
        }
        p.alive = true;
        p.life += 1;
        p.session = None;
        p.epoch = 0;
        p.notice = None;
        p.cancel_all();
        if disk_lost {
            p.disk.clear();
        }
        let life = p.life;
        self.connect(process, life)
    }

    pub(super) fn connect(&mut self, process: usize, life: u64) -> Outcome {
        let p = &self.processes[process];
        if !p.alive || p.life != life || p.session.is_some() {
            return Ok(());
        }
        // Whoever the lease names; while nobody leads, again later.
        let address = self.ha.lease().filter(|lease| !lease.released).and_then(|lease| lease.address.parse().ok());
        let manager =
            address.and_then(|m: usize| self.managers.get(m)).filter(|m| m.alive && m.paused_until <= self.now);
        let leading = manager.and_then(|m| m.leading.as_ref()).filter(|leading| leading.open);
        let Some((term, epoch)) = leading.map(|leading| (leading.term, leading.epoch)) else {
            let after = self.rng.random_range(100..700);
            self.later(after, Happening::Connect(process, life));
            return Ok(());
        };
        let session = SessionId(self.next_session);
        self.next_session += 1;
        self.later(1_000, Happening::Look(process, life, session));
        let link = Link { process, term, epoch, last_to_master: 0, last_to_process: 0, broken: false, silent: false };
        self.links.insert(session, link);
        self.processes[process].session = Some(session);
        self.processes[process].epoch = 0;
        let register = self.processes[process].register(self.now);
        if self.processes[process].notice.is_some_and(|notice| notice.epoch != 0 && notice.epoch < epoch) {
            self.totals.noticed_again = true;
        }
        self.send_to_master(process, FromTask::Register(register));
        Ok(())
    }

    pub(super) fn obey(&mut self, process: usize, session: SessionId, epoch: u64, message: ToTask) -> Outcome {
        match message {
            ToTask::Registered(_) => {
                self.processes[process].epoch = epoch;
                Ok(())
            }
            ToTask::Heartbeat(heartbeat) => {
                self.send_to_master(process, FromTask::Heartbeat(heartbeat));
                Ok(())
            }
            ToTask::Deploy(deployment) => self.deploy(process, session, &deployment),
            ToTask::Cancel(cancel) => {
                let id = TaskId::of(&cancel.attempt.unwrap_or_default());
                let state = if self.rng.random_range(0..100) < 8 { "FAILED" } else { "CANCELED" };
                let stranger = self.processes[process].records.contains_key(&id);
                if !stranger || self.processes[process].is_attached(&id) {
                    self.report(process, &id, state, "while it was cancelled");
                }
                self.processes[process].cancel(&id);
                Ok(())
            }
            ToTask::TriggerCheckpoint(trigger) => {
                let stop = trigger.stop();
                let id = TaskId::of(&trigger.attempt.unwrap_or_default());
                if trigger.savepoint {
                    self.store.savepoints.insert(trigger.checkpoint_id, trigger.target);
                }
                if let Some(record) = self.processes[process].records.get_mut(&id) {
                    record.triggered(trigger.checkpoint_id, stop != StopMode::None);
                }
                if let Some(task) = self.processes[process].tasks.get_mut(&id) {
                    task.on_trigger(trigger.checkpoint_id, stop);
                }
                Ok(())
            }
            ToTask::CheckpointComplete(complete) => self.complete(process, complete.checkpoint_id),
            ToTask::CheckpointAborted(aborted) => {
                for id in self.told(process) {
                    if let Some(task) = self.processes[process].tasks.get_mut(&id) {
                        task.on_aborted(aborted.checkpoint_id);
                    }
                }
                Ok(())
            }
            ToTask::Coordinator(message) => {
                let id = TaskId::of(&message.attempt.unwrap_or_default());
                if let Some(record) = self.processes[process].records.get_mut(&id) {
                    record.received(&message.operator_uid, &message.payload);
                }
                if let Some(task) = self.processes[process].tasks.get_mut(&id) {
                    task.on_split(enumerator::read_answer(&message.payload));
                }
                Ok(())
            }
            ToTask::JobEnded(_) => {
                self.processes[process].cancel_all();
                self.processes[process].disk.clear();
                Ok(())
            }
            ToTask::Adopt(adopt) => {
                self.adopt(process, session, adopt.attempts);
                Ok(())
            }
            ToTask::Decommission(notice) => {
                let deadline = self.now + notice.remaining_ms as i64;
                self.note(process, Notice { deadline, signalled: false, epoch });
                Ok(())
            }
            ToTask::Drained(_) => self.drained(process),
            ToTask::Shutdown(_) | ToTask::CollectAck(_) => Ok(()),
        }
    }

    /// The tasks that messages about the whole job reach.
    fn told(&self, process: usize) -> Vec<TaskId> {
        let p = &self.processes[process];
        p.tasks.keys().filter(|id| p.is_attached(id)).cloned().collect()
    }

    /// The new leader takes tasks over: what it may have missed comes again.
    fn adopt(&mut self, process: usize, session: SessionId, attempts: Vec<internal::AttemptId>) {
        for attempt in attempts {
            let id = TaskId::of(&attempt);
            let p = &mut self.processes[process];
            let missed = p.records.get(&id).or_else(|| p.ended.get(&id)).map(|record| record.missed());
            match missed {
                Some(missed) => {
                    p.attached.insert(id, session);
                    missed.into_iter().for_each(|message| self.send_to_master(process, message));
                }
                None => self.report(process, &id, "FAILED", "it ended while there was no JobManager"),
            }
        }
    }

    pub(super) fn deploy(
        &mut self,
        process: usize,
        session: SessionId,
        deployment: &internal::TaskDeployment,
    ) -> Outcome {
        invariants::not_ended(&self.job, &self.ha)?;
        if self.store.stopped_with().is_some() {
            return Err("a job that was stopped with a savepoint is deployed again".into());
        }
        invariants::files_exist(&deployment.restore, &self.store)?;
        let (task, effects) = Task::build(deployment, self.scenario.split_records, self.bug);
        let id = task.id.clone();
        let same = |other: &TaskId| other.vertex == id.vertex && other.subtask == id.subtask;
        let older: Vec<TaskId> = self.processes[process].tasks.keys().filter(|other| same(other)).cloned().collect();
        for older in older {
            self.processes[process].cancel(&older);
        }
        self.processes[process].ended.retain(|other, _| !same(other));
        self.processes[process].records.insert(id.clone(), AttemptRecord::of(deployment));
        self.processes[process].attached.insert(id.clone(), session);
        let roll = self.rng.random_range(0..100);
        if !self.faults_over && roll < self.scenario.restore_fails_percent {
            self.report(process, &id, "FAILED", "the state cannot be read");
            self.processes[process].remove(&id);
            return Ok(());
        }
        if roll >= 20 {
            self.report(process, &id, "INITIALIZING", "");
        }
        self.processes[process].tasks.insert(id.clone(), task);
        self.carry_out_effects(process, &id, effects)?;
        let after = if roll > 90 { self.rng.random_range(500..4_000) } else { self.rng.random_range(5..300) };
        let life = self.processes[process].life;
        self.later(after, Happening::Initialized(process, life, id));
        Ok(())
    }

    pub(super) fn initialized(&mut self, process: usize, life: u64, id: &TaskId) -> Outcome {
        let p = &mut self.processes[process];
        if p.life != life {
            return Ok(());
        }
        let Some(task) = p.tasks.get_mut(id) else { return Ok(()) };
        if !self.faults_over && self.rng.random_range(0..100) < self.scenario.restore_fails_percent {
            return self.fail_task(process, life, id);
        }
        task.running = true;
        self.report(process, id, "RUNNING", "");
        self.step(process, life, id.clone())
    }

    pub(super) fn step(&mut self, process: usize, life: u64, id: TaskId) -> Outcome {
        let p = &mut self.processes[process];
        if p.life != life || !p.alive {
            return Ok(());
        }
        let Some(task) = p.tasks.get_mut(&id) else { return Ok(()) };
        let effects = task.step(&mut self.channels, &mut self.rng);
        self.carry_out_effects(process, &id, effects)?;
        let after = self.rng.random_range(150..900);
        self.later(after, Happening::Step(process, life, id));
        Ok(())
    }

    pub(super) fn complete(&mut self, process: usize, checkpoint: u64) -> Outcome {
        let job = self.job.as_str().to_owned();
        self.processes[process].confirm(&job, checkpoint);
        for id in self.told(process) {
            if let Some(record) = self.processes[process].records.get_mut(&id) {
                record.completed(&job, checkpoint);
            }
            let Some(task) = self.processes[process].tasks.get_mut(&id) else { continue };
            let effects = task.on_complete(checkpoint, &mut self.channels);
            self.carry_out_effects(process, &id, effects)?;
        }
        Ok(())
    }

    pub(super) fn carry_out_effects(&mut self, process: usize, id: &TaskId, effects: Vec<Effect>) -> Outcome {
        for effect in effects {
            match effect {
                Effect::RequestSplit => {
                    let message = internal::CoordinatorMessage {
                        attempt: Some(id.proto()),
                        operator_uid: id.vertex.clone(),
                        payload: enumerator::REQUEST.to_vec(),
                    };
                    self.task_message(process, id, FromTask::Coordinator(message));
                }
                Effect::EndOfData => {
                    let ended = internal::EndOfData { attempt: Some(id.proto()) };
                    self.task_message(process, id, FromTask::EndOfData(ended));
                }
                Effect::Snapshot { checkpoint, state } => self.upload(process, id, checkpoint, &state),
                Effect::Commit { transaction, by } => {
                    invariants::before_commit(by, self.scenario.checkpointing, &self.store)?;
                    let committed = self.ledger.commit(id, &transaction);
                    if self.scenario.checkpointing {
                        committed?;
                    }
                }
                Effect::Finished => {
                    self.report(process, id, "FINISHED", "");
                    self.processes[process].remove(id);
                }
            }
        }
        Ok(())
    }

    /// In the background: the task goes on, and may be gone before the acknowledgement is sent.
    pub(super) fn upload(&mut self, process: usize, id: &TaskId, checkpoint: u64, state: &TaskState) {
        let slow = self.rng.random_range(0..100) < 15;
        let after = if slow { self.rng.random_range(500..4_000) } else { self.rng.random_range(5..400) };
        let life = self.processes[process].life;
        let savepoint = self.store.savepoints.contains_key(&checkpoint);
        let declines = if savepoint { self.scenario.savepoint_decline_percent } else { self.scenario.decline_percent };
        if !self.faults_over && self.rng.random_range(0..100) < declines {
            let decline = internal::CheckpointDecline {
                attempt: Some(id.proto()),
                checkpoint_id: checkpoint,
                reason: "the upload failed".into(),
            };
            self.later(
                after,
                Happening::Send(process, life, id.clone(), Box::new(FromTask::CheckpointDecline(decline))),
            );
            return;
        }
        let kept = self.rng.random_bool(0.8) && !savepoint;
        let Some(task) = self.processes[process].tasks.get_mut(id) else { return };
        let mut files: Vec<String> = if kept { task.base.clone() } else { Vec::new() };
        files.truncate(3);
        let file = self.store.new_file(id, checkpoint);
        files.push(file.clone());
        if !savepoint {
            task.uploaded.insert(checkpoint, files.clone());
            self.processes[process].keep(id, checkpoint);
        }
        // The file is there before the acknowledgement is sent.
        let uploaded = if self.bug == Some(Bug::MetadataBeforeFiles) { after + 2_000 } else { 0 };
        self.later(uploaded, Happening::Uploaded(file));
        let ack = internal::CheckpointAck {
            attempt: Some(id.proto()),
            checkpoint_id: checkpoint,
            snapshot: Some(encode(state, &files)),
            ..Default::default()
        };
        self.later(after, Happening::Send(process, life, id.clone(), Box::new(FromTask::CheckpointAck(ack))));
    }

    pub(super) fn report(&mut self, process: usize, id: &TaskId, state: &str, error: &str) {
        let changed = internal::TaskStateChanged {
            attempt: Some(id.proto()),
            state: state.into(),
            error: error.into(),
            restore: None,
            damaged_checkpoint: 0,
        };
        self.task_message(process, id, FromTask::TaskState(changed));
    }

    pub(super) fn fail_task(&mut self, process: usize, life: u64, id: &TaskId) -> Outcome {
        if self.processes[process].life == life && self.processes[process].tasks.contains_key(id) {
            self.report(process, id, "FAILED", "it was made to fail");
            self.processes[process].remove(id);
        }
        Ok(())
    }

    /// A task sends something to its leader: it is recorded, and lost if that is no more.
    pub(super) fn task_message(&mut self, process: usize, id: &TaskId, message: FromTask) {
        let p = &mut self.processes[process];
        if let Some(record) = p.records.get_mut(id) {
            record.sent(&message);
        }
        // Of a task that is no more something may still be on its way.
        if p.is_attached(id) || !p.records.contains_key(id) {
            self.send_to_master(process, message);
        }
    }
}
