//! What a TaskManager remembers of a task for a leader that did not deploy it.
//!
//! The record follows the messages between the task and its leader. From it the next leader sees
//! whether the task goes on from the last checkpoint, how it is wired, and what source coordinators
//! have given it since; and the task's own messages that got lost with the old leader are sent again.

use std::collections::VecDeque;

use hurtig_proto::internal::v1 as internal;
use internal::from_task_manager::Message;

/// Acknowledged checkpoints that are remembered: those that may be complete without the task knowing.
const REMEMBERED_ACKNOWLEDGEMENTS: usize = 64;

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    facts: internal::RunningAttempt,
    /// Sent to coordinators and not answered yet: operator and message, oldest first.
    unanswered: VecDeque<internal::CoordinatorMessage>,
}

impl AttemptRecord {
    /// Of a task that is about to be built.
    pub fn of(deployment: &internal::TaskDeployment) -> AttemptRecord {
        let (subtask, attempt) = deployment.attempt.as_ref().map_or((0, 0), |id| (id.subtask, id.attempt));
        let inputs = deployment.inputs.iter().flat_map(|gate| {
            gate.channels.iter().map(move |channel| internal::AttemptChannel {
                edge_id: gate.edge_id.clone(),
                producer_subtask: channel.producer_subtask,
                producer_attempt: channel.producer_attempt,
                consumer_subtask: subtask,
                consumer_attempt: attempt,
            })
        });
        let outputs = deployment.outputs.iter().flat_map(|edge| {
            edge.channels.iter().map(move |channel| internal::AttemptChannel {
                edge_id: edge.edge_id.clone(),
                producer_subtask: subtask,
                producer_attempt: attempt,
                consumer_subtask: channel.consumer_subtask,
                consumer_attempt: channel.consumer_attempt,
            })
        });
        let facts = internal::RunningAttempt {
            attempt: deployment.attempt.clone(),
            state: "INITIALIZING".to_owned(),
            slot: deployment.slot,
            parallelism: deployment.parallelism,
            plan: deployment.plan,
            restored_checkpoint: deployment.restore_checkpoint_id,
            last_trigger: deployment.restore_checkpoint_id,
            channels: inputs.chain(outputs).collect(),
            ..internal::RunningAttempt::default()
        };
        AttemptRecord { facts, unanswered: VecDeque::new() }
    }

    /// What the next leader needs to know.
    pub fn report(&self) -> internal::RunningAttempt {
        self.facts.clone()
    }

    /// The task has sent a message.
    pub fn sent(&mut self, message: &Message) {
        match message {
            Message::TaskState(changed) => {
                self.facts.state.clone_from(&changed.state);
                self.facts.error.clone_from(&changed.error);
                if changed.restore.is_some() {
                    self.facts.restore = changed.restore.clone();
                }
            }
            Message::CheckpointAck(ack) => {
                self.facts.acknowledged.push(ack.checkpoint_id);
                if self.facts.acknowledged.len() > REMEMBERED_ACKNOWLEDGEMENTS {
                    self.facts.acknowledged.remove(0);
                }
            }
            Message::EndOfData(_) => self.facts.end_of_data = true,
            Message::Coordinator(message) => self.unanswered.push_back(message.clone()),
            _ => {}
        }
    }

    /// A coordinator's message has come: the answer to the oldest of its operator's.
    pub fn received(&mut self, operator_uid: &str, payload: &[u8]) {
        if let Some(at) = self.unanswered.iter().position(|message| message.operator_uid == operator_uid) {
            self.unanswered.remove(at);
        }
        self.facts.received.push(internal::CoordinatorReceipt {
            operator_uid: operator_uid.to_owned(),
            after_checkpoint: self.facts.last_trigger,
            payload: payload.to_vec(),
        });
    }

    /// The task was triggered for a checkpoint, or for a savepoint with which the job stops.
    pub fn triggered(&mut self, checkpoint: u64, stopping: bool) {
        self.facts.last_trigger = self.facts.last_trigger.max(checkpoint);
        self.facts.stopping = stopping;
    }

    /// A checkpoint is complete: what is in it need not be remembered.
    pub fn completed(&mut self, job: &str, checkpoint: u64) {
        if self.facts.attempt.as_ref().is_some_and(|attempt| attempt.job_id == job) {
            self.facts.received.retain(|receipt| receipt.after_checkpoint >= checkpoint);
            self.facts.acknowledged.retain(|acknowledged| *acknowledged >= checkpoint);
        }
    }

    /// What a new leader may not know: sent again.
    pub fn missed(&self) -> Vec<Message> {
        let facts = &self.facts;
        let mut messages = vec![Message::TaskState(internal::TaskStateChanged {
            attempt: facts.attempt.clone(),
            state: facts.state.clone(),
            error: facts.error.clone(),
            restore: facts.restore.clone(),
            ..internal::TaskStateChanged::default()
        })];
        let ended = !matches!(facts.state.as_str(), "INITIALIZING" | "RUNNING");
        if facts.end_of_data && !ended {
            messages.push(Message::EndOfData(internal::EndOfData { attempt: facts.attempt.clone() }));
        }
        if !ended {
            messages.extend(self.unanswered.iter().cloned().map(Message::Coordinator));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(uid: &str, payload: u8) -> internal::CoordinatorMessage {
        internal::CoordinatorMessage { attempt: None, operator_uid: uid.into(), payload: vec![payload] }
    }

    #[test]
    fn what_was_given_after_the_last_checkpoint_and_what_waits_for_an_answer_is_known() {
        let deployment = internal::TaskDeployment {
            attempt: Some(internal::AttemptId { job_id: "j".into(), ..Default::default() }),
            restore_checkpoint_id: 3,
            ..Default::default()
        };
        let mut record = AttemptRecord::of(&deployment);
        record.sent(&Message::Coordinator(message("s", 1)));
        record.received("s", &[10]);
        record.triggered(4, false);
        record.sent(&Message::Coordinator(message("s", 2)));
        record.received("s", &[11]);
        record.sent(&Message::Coordinator(message("s", 3)));
        record.sent(&Message::CheckpointAck(internal::CheckpointAck { checkpoint_id: 4, ..Default::default() }));
        record.completed("j", 4);
        let report = record.report();
        assert_eq!(report.received.iter().map(|r| (r.after_checkpoint, r.payload[0])).collect::<Vec<_>>(), [(4, 11)]);
        assert_eq!((report.acknowledged, report.restored_checkpoint), (vec![4], 3));
        let missed = record.missed();
        assert_eq!(missed[1..], [Message::Coordinator(message("s", 3))]);
    }
}
