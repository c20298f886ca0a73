//! Opening a job's checkpoints: read HEAD, claim it by swapping in a new epoch, read the metadata of
//! the checkpoints that it retains. The last of them is what the job restores. What a JobManager that
//! was running the job has left besides them is swept up.

use std::collections::VecDeque;
use std::sync::Arc;

use hurtig_proto::v1;

use super::files::CompletedCheckpoint;
use super::head::HeadOutcome;
use super::{CheckpointAction, CheckpointCoordinator, HeadPurpose, ID_BLOCK, Purpose};
use crate::storage::{StorageError, StorageReply, StorageRequest};

/// Tries at a store that does not answer before the job fails.
const ATTEMPTS: u32 = 5;
/// Before the second try; doubled for each after.
const FIRST_PAUSE_MS: i64 = 200;

/// States of a job that has ended, as HEAD records them.
const TERMINAL: [&str; 3] = ["FINISHED", "CANCELED", "FAILED"];

/// How far opening has come.
#[derive(Debug, Default)]
pub(super) struct Opening {
    stage: Stage,
    attempts: u32,
    /// HEAD is of a JobManager that did not come to end the job.
    takes_over: bool,
    retry_at: Option<i64>,
}

#[derive(Debug, Default, PartialEq)]
enum Stage {
    #[default]
    LoadingHead,
    Claiming,
    ReadingMetadata(VecDeque<v1::RetainedCheckpoint>),
    Open,
    Failed,
}

impl Opening {
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    pub(super) fn deadline(&self) -> Option<i64> {
        self.retry_at
    }

    /// Whether a retry is due; if so, the caller makes it.
    pub(super) fn retry_due(&mut self, now: i64) -> bool {
        let due = self.retry_at.is_some_and(|time| time <= now);
        if due {
            self.retry_at = None;
        }
        due
    }
}

impl CheckpointCoordinator {
    /// Starts opening, or tries the last step again. Without periodic checkpoints there is nothing
    /// to open.
    pub fn open(&mut self, now: i64) {
        if !self.enabled() {
            self.opening.stage = Stage::Open;
            self.actions.push(CheckpointAction::Opened);
            return;
        }
        if self.ended.is_some() {
            return;
        }
        match &self.opening.stage {
            Stage::LoadingHead => self.call(Purpose::Open, StorageRequest::LoadHead),
            Stage::ReadingMetadata(_) => self.read_next_metadata(now),
            Stage::Claiming | Stage::Open | Stage::Failed => {}
        }
    }

    pub(super) fn on_open_reply(&mut self, reply: StorageReply, now: i64) {
        if self.ended.is_some() {
            return;
        }
        match reply {
            StorageReply::Head(Ok(found)) => {
                self.head.loaded(found);
                self.claim();
            }
            StorageReply::Metadata(Ok(metadata)) => self.metadata_read(*metadata, now),
            StorageReply::Head(Err(error)) | StorageReply::Metadata(Err(error)) => self.open_failed(error, now),
            _ => {}
        }
    }

    fn open_failed(&mut self, error: StorageError, now: i64) {
        self.opening.attempts += 1;
        let hopeless = !matches!(error, StorageError::Unavailable(_));
        if hopeless || self.opening.attempts >= ATTEMPTS {
            self.opening.stage = Stage::Failed;
            self.actions.push(CheckpointAction::OpenFailed(error));
        } else {
            self.opening.retry_at = Some(now + (FIRST_PAUSE_MS << (self.opening.attempts - 1)));
        }
    }

    fn claim(&mut self) {
        self.opening.stage = Stage::Claiming;
        let mut head = self.head.current().clone();
        head.format_version = 1;
        head.epoch += 1;
        self.next_id = head.next_checkpoint_id.max(1);
        head.next_checkpoint_id = self.next_id + ID_BLOCK;
        // What an earlier, ended run of the job left is not continued.
        let ended = TERMINAL.contains(&head.job_status.as_str());
        if ended {
            head.retained.clear();
        }
        self.opening.takes_over = !ended && !head.retained.is_empty();
        head.job_status = "RUNNING".to_owned();
        self.swap_head(head, HeadPurpose::Claim);
    }

    pub(super) fn claimed(&mut self, outcome: HeadOutcome, now: i64) {
        match outcome {
            HeadOutcome::Swapped => {
                let retained = self.head.current().retained.clone();
                self.opening.attempts = 0;
                self.opening.stage = Stage::ReadingMetadata(retained.into());
                self.read_next_metadata(now);
            }
            HeadOutcome::Failed(error) => {
                self.opening.stage = Stage::Failed;
                self.actions.push(CheckpointAction::OpenFailed(error));
            }
            HeadOutcome::Deposed => {
                self.opening.stage = Stage::Failed;
                self.deposed_if(&outcome);
            }
        }
    }

    fn read_next_metadata(&mut self, _now: i64) {
        let Stage::ReadingMetadata(retained) = &self.opening.stage else { return };
        match retained.front() {
            Some(next) => {
                let object = next.metadata_object.clone();
                self.call(Purpose::Open, StorageRequest::ReadMetadata { object });
            }
            None => {
                self.opening.stage = Stage::Open;
                if self.opening.takes_over {
                    let kept = self.files.retained().iter().map(|completed| completed.id).collect();
                    // Ids of this JobManager begin here: nothing of its own is swept.
                    self.call(Purpose::Delete, StorageRequest::Sweep { below: self.next_id, kept });
                }
                self.stats.last_id = self.latest().map_or(0, |latest| latest.id);
                self.actions.push(CheckpointAction::Opened);
            }
        }
    }

    fn metadata_read(&mut self, metadata: v1::CheckpointMetadata, now: i64) {
        let Stage::ReadingMetadata(retained) = &mut self.opening.stage else { return };
        if let Some(entry) = retained.pop_front() {
            self.files.restore(CompletedCheckpoint::new(entry.metadata_object, Arc::new(metadata)));
        }
        self.read_next_metadata(now);
    }
}
