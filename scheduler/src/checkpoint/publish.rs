//! How a checkpoint becomes the truth, and how the truth about an ended job is written: metadata
//! first, then HEAD.

use hurtig_proto::internal::v1::StopMode;

use super::files::CompletedCheckpoint;
use super::head::HeadOutcome;
use super::pending::PendingCheckpoint;
use super::{CheckpointAction, CheckpointCoordinator, CheckpointPhase, EndState, HeadPurpose, ID_BLOCK, Purpose};
use crate::error::SchedulerError;
use crate::settings::Retention;
use crate::storage::{StorageError, StorageReply, StorageRequest};

/// How often the metadata of a savepoint is written again when the store does not answer.
const REWRITES: u32 = 3;

impl CheckpointCoordinator {
    pub(super) fn write_metadata(&mut self) {
        let Some(pending) = &self.pending else { return };
        let metadata = pending.metadata(self.job.as_str(), &self.job_name);
        let savepoint_folder = pending.savepoint.as_ref().map(|s| s.folder.clone());
        let purpose = Purpose::Metadata { checkpoint: pending.id, savepoint: savepoint_folder.is_some() };
        self.call(purpose, StorageRequest::WriteMetadata { metadata, savepoint_folder });
    }

    pub(super) fn metadata_written(&mut self, result: Result<String, StorageError>, now: i64) {
        let Some(pending) = &mut self.pending else { return };
        let uri = match result {
            Ok(uri) => uri,
            // It may have been written. For a checkpoint that does not matter, since HEAD decides.
            Err(StorageError::Unavailable(_)) if pending.savepoint.is_some() && pending.failed_writes < REWRITES => {
                pending.failed_writes += 1;
                return self.write_metadata();
            }
            Err(error) => return self.abort(&format!("its metadata cannot be written: {error}"), true, now),
        };
        let mut head = self.head.current().clone();
        match &pending.savepoint {
            Some(savepoint) if savepoint.stop != StopMode::None && self.settings.interval_ms.is_some() => {
                head.stopped_with.clone_from(&uri);
                self.move_pending(CheckpointPhase::Publishing);
                self.swap_head(head, HeadPurpose::Stop(uri));
            }
            Some(_) => self.savepoint_complete(uri, now),
            None => {
                let completed = CompletedCheckpoint::new(uri, pending.metadata(self.job.as_str(), &self.job_name));
                head.retained = self.files.retained_with(&completed, self.settings.retained);
                head.next_checkpoint_id = head.next_checkpoint_id.max(self.next_id + ID_BLOCK);
                self.move_pending(CheckpointPhase::Publishing);
                self.swap_head(head, HeadPurpose::Publish(Box::new(completed)));
            }
        }
    }

    /// A savepoint is the truth: a plain one by its metadata, one with which the job stops by HEAD.
    fn savepoint_complete(&mut self, uri: String, now: i64) {
        self.move_pending(CheckpointPhase::Completed);
        let Some(pending) = self.pending.take() else { return };
        let Some(savepoint) = pending.savepoint else { return };
        self.files.savepoint_completed(&savepoint.folder);
        if savepoint.stop == StopMode::None {
            self.answer_savepoint(&savepoint, Ok(uri));
        } else {
            self.stopped = true;
            self.actions.push(CheckpointAction::Stopped { id: pending.id, path: uri });
            for other in std::mem::take(&mut self.savepoints) {
                let message = format!("job {} was stopped with another savepoint", self.job);
                self.answer_savepoint(&other, Err(SchedulerError::Precondition(message)));
            }
        }
        self.tick(now);
    }

    pub(super) fn published(&mut self, completed: CompletedCheckpoint, now: i64) {
        let id = completed.id;
        if let Some(pending) = &self.pending {
            self.stats.completed += 1;
            self.stats.last_id = id;
            self.stats.last_time_ms = now;
            self.stats.last_bytes = completed.bytes;
            self.stats.last_uploaded_bytes = pending.uploaded_bytes();
            self.stats.uploaded_bytes += pending.uploaded_bytes();
            self.stats.last_duration_ms = (now - pending.timestamp_ms).max(0) as u64;
            // A failover while HEAD was swapped has made it an ordinary one.
            self.last_completed = pending.last && self.all_sources_ended;
        }
        self.move_pending(CheckpointPhase::Completed);
        self.pending = None;
        self.failures_in_row = 0;
        self.last_completion_ms = now;
        let deletable = self.files.complete(completed, self.settings.retained);
        self.actions.push(CheckpointAction::Completed { id });
        self.delete(deletable);
        self.sweep_if_due();
    }

    /// What earlier leaders have left goes once no task can refer to it any more.
    fn sweep_if_due(&mut self) {
        let Some((left, below)) = self.sweep_due.take() else { return };
        if left > 1 {
            self.sweep_due = Some((left - 1, below));
        } else {
            self.call(
                Purpose::Delete,
                StorageRequest::Sweep {
                    ids: self.head.current().first_checkpoint_id..below,
                    kept: self.files.kept_ids(),
                },
            );
        }
    }

    /// The job has ended in `status` (one of the terminal states). HEAD says so and what is not to
    /// be retained goes.
    pub fn end(&mut self, status: &str) {
        self.suspend("the job has ended");
        let keep = matches!(
            (self.settings.retention, status),
            (Retention::RetainOnCancellation, "CANCELED" | "FAILED") | (Retention::DeleteOnCancellation, "FAILED")
        );
        let usable = self.enabled() && self.opening.is_open();
        self.ended = Some(EndState { status: status.to_owned(), keep, swapped: !usable || self.deposed });
        self.swap_end();
    }

    pub(super) fn swap_end(&mut self) {
        let Some(end) = &mut self.ended else { return };
        if end.swapped || self.head.busy() {
            return;
        }
        end.swapped = true;
        let mut head = self.head.current().clone();
        head.job_status = end.status.clone();
        head.next_checkpoint_id = head.next_checkpoint_id.max(self.next_id);
        if !end.keep {
            head.retained.clear();
        }
        self.swap_head(head, HeadPurpose::End);
    }

    pub(super) fn on_metadata_reply(&mut self, checkpoint: u64, savepoint: bool, reply: StorageReply, now: i64) {
        let StorageReply::MetadataWritten(result) = reply else { return };
        let writing = |p: &PendingCheckpoint| p.id == checkpoint && p.phase == CheckpointPhase::WritingMetadata;
        if self.pending.as_ref().is_some_and(writing) {
            self.metadata_written(result, now);
        } else if let (Ok(folder), true) = (&result, savepoint) {
            self.delete_folder(folder.clone());
        } else if let Ok(uri) = result {
            // Aborted meanwhile; the object means nothing.
            self.delete(vec![uri]);
        }
    }

    pub(super) fn head_done(&mut self, outcome: HeadOutcome, now: i64) {
        let purpose = self.head_purpose.take();
        match (purpose, outcome) {
            (Some(HeadPurpose::Publish(completed)), HeadOutcome::Swapped) => self.published(*completed, now),
            (Some(HeadPurpose::Stop(path)), HeadOutcome::Swapped) => self.savepoint_complete(path, now),
            (Some(HeadPurpose::Publish(_) | HeadPurpose::Stop(_)), outcome) => {
                self.deposed |= outcome == HeadOutcome::Deposed;
                self.move_pending(CheckpointPhase::Aborted);
                let reason = match &outcome {
                    HeadOutcome::Failed(error) => format!("HEAD cannot be written: {error}"),
                    _ => "another JobManager has taken over".to_owned(),
                };
                self.drop_pending(&reason, outcome != HeadOutcome::Deposed, now);
                self.deposed_if(&outcome);
            }
            (Some(HeadPurpose::Claim), outcome) => self.claimed(outcome, now),
            (Some(HeadPurpose::GiveUp(id)), outcome) => self.given_up(id, &outcome),
            (Some(HeadPurpose::Reserve), HeadOutcome::Failed(error)) => {
                self.actions.push(CheckpointAction::FailJob(format!("checkpoint ids cannot be reserved: {error}")));
            }
            (Some(HeadPurpose::End), HeadOutcome::Swapped) => {
                let keep = self.ended.as_ref().is_some_and(|end| end.keep);
                let deletable = self.files.end(keep);
                self.delete(deletable);
            }
            (_, outcome) => self.deposed_if(&outcome),
        }
        self.swap_end();
        self.swap_given_up();
        self.tick(now);
    }

    pub(super) fn deposed_if(&mut self, outcome: &HeadOutcome) {
        if *outcome == HeadOutcome::Deposed {
            // Nothing may be written or deleted any more.
            self.deposed = true;
            self.giving_up = None;
            self.ended = Some(EndState { status: String::new(), keep: true, swapped: true });
            self.actions.push(CheckpointAction::Deposed);
        }
    }
}
