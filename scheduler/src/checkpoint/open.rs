//! Opening a job's checkpoints: read HEAD, claim it by swapping in a new epoch, read the metadata of
//! the checkpoints that it retains. The last of them is what the job restores. What a JobManager that
//! was running the job has left besides them is swept up.
//!
//! A job with something to start from (`execution.state-recovery.path`) restores that as long as it has
//! no checkpoint of its own. HEAD says what a run was started from: under the same job id, a run that
//! starts from something else is another one, and what the earlier one has left means nothing to it.
//!
//! A retained checkpoint whose metadata is missing or damaged fails the job, or, where the configuration
//! allows to go back to an earlier one, is struck from HEAD before any other is restored.

use std::collections::VecDeque;
use std::sync::Arc;

use hurtig_proto::v1;

use super::files::{CompletedCheckpoint, retained_entry};
use super::head::HeadOutcome;
use super::{CheckpointAction, CheckpointCoordinator, HeadPurpose, ID_BLOCK, Purpose};
use crate::storage::{StorageError, StorageReply, StorageRequest, Version};

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
    /// HEAD is of an earlier run under the same job id, or there is none.
    new_run: bool,
    /// It is known what the neighbours of a claimed checkpoint refer to.
    neighbours_read: bool,
    retry_at: Option<i64>,
}

#[derive(Debug, Default, PartialEq)]
enum Stage {
    #[default]
    LoadingHead,
    /// Of what the job starts from.
    ReadingStart,
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
        if self.ended.is_some() {
            return;
        }
        match &self.opening.stage {
            Stage::LoadingHead if !self.enabled() => self.read_start(now),
            Stage::LoadingHead => self.call(Purpose::Open, StorageRequest::LoadHead),
            Stage::ReadingStart => self.read_start(now),
            Stage::ReadingMetadata(_) => self.read_next_metadata(now),
            Stage::Claiming | Stage::Open | Stage::Failed => {}
        }
    }

    pub(super) fn on_open_reply(&mut self, reply: StorageReply, now: i64) {
        if self.ended.is_some() {
            return;
        }
        match reply {
            StorageReply::Head(Ok(found)) => self.head_loaded(found, now),
            StorageReply::Metadata(Ok(metadata)) if self.opening.stage == Stage::ReadingStart => {
                self.start_read(*metadata, now);
            }
            StorageReply::Metadata(Ok(metadata)) => self.metadata_read(*metadata, now),
            StorageReply::Beside(Ok(others)) => {
                let first = self.head.current().first_checkpoint_id;
                self.files.keep_for_others(&others, first);
                self.opening.neighbours_read = true;
                self.read_next_metadata(now);
            }
            StorageReply::Head(Err(error)) | StorageReply::Metadata(Err(error)) | StorageReply::Beside(Err(error)) => {
                self.open_failed(error, now);
            }
            _ => {}
        }
    }

    fn head_loaded(&mut self, found: Option<(v1::Head, Version)>, now: i64) {
        self.head.loaded(found);
        let head = self.head.current();
        if self.finishing {
            // Only its end is left to be done.
            return self.claim(None);
        }
        let ended = TERMINAL.contains(&head.job_status.as_str());
        let other = self.settings.start.as_ref().is_some_and(|start| start.path != head.start_path);
        self.opening.new_run = ended || other || head.epoch == 0;
        if self.opening.new_run || head.retained.is_empty() {
            if !self.opening.new_run && !head.stopped_with.is_empty() {
                return self.stopped_before();
            }
            return self.read_start(now);
        }
        if head.stopped_with.is_empty() { self.claim(None) } else { self.stopped_before() }
    }

    /// The JobManager that stopped the job was lost before all tasks had ended. Where tasks may have run on,
    /// the job master sees whether they can end in order.
    fn stopped_before(&mut self) {
        if self.leader_epoch > 0 {
            self.stopped = true;
            return self.claim(None);
        }
        let path = &self.head.current().stopped_with;
        let error = format!("the job was stopped with savepoint {path}: start a job from that to go on");
        self.opening.stage = Stage::Failed;
        self.actions.push(CheckpointAction::OpenFailed(StorageError::Permanent(error)));
    }

    fn read_start(&mut self, now: i64) {
        match &self.settings.start {
            Some(start) => {
                self.opening.stage = Stage::ReadingStart;
                let object = start.path.clone();
                self.call(Purpose::Open, StorageRequest::ReadMetadata { object });
            }
            None if self.enabled() => self.claim(None),
            None => {
                self.opening.stage = Stage::ReadingMetadata(VecDeque::new());
                self.read_next_metadata(now);
            }
        }
    }

    fn start_read(&mut self, metadata: v1::CheckpointMetadata, now: i64) {
        let Some(start) = self.settings.start.clone() else { return };
        self.next_id = self.next_id.max(metadata.checkpoint_id + 1);
        if start.claim && self.enabled() {
            let folder = start.path.trim_end_matches('/').trim_end_matches("/_metadata");
            let mut claimed = CompletedCheckpoint::new(format!("{folder}/_metadata"), Arc::new(metadata));
            claimed.claimed = true;
            return self.claim(Some(&claimed));
        }
        self.files.start_from(CompletedCheckpoint::unclaimed(start.path, metadata));
        if self.enabled() {
            self.claim(None);
        } else {
            self.opening.stage = Stage::ReadingMetadata(VecDeque::new());
            self.read_next_metadata(now);
        }
    }

    /// Strikes the retained checkpoint that was being read from HEAD, if another is retained and the
    /// job's configuration allows it, and reads the others again. Else says what would help.
    fn strike_damaged(&mut self, error: StorageError) -> Result<(), StorageError> {
        let Stage::ReadingMetadata(unread) = &self.opening.stage else { return Err(error) };
        let (StorageError::NotFound(text) | StorageError::Damaged(text)) = &error else { return Err(error) };
        let mut head = self.head.current().clone();
        let Some(id) = unread.front().map(|entry| entry.checkpoint_id).filter(|_| head.retained.len() > 1) else {
            return Err(error);
        };
        if !self.settings.fall_back {
            let advice = "hurtig.recovery.fall-back-to-earlier-checkpoint lets the job do without this checkpoint";
            return Err(StorageError::Damaged(format!("{text} ({advice})")));
        }
        tracing::warn!(job = %self.job, checkpoint = id, %error, "a checkpoint without usable metadata is given up");
        head.retained.retain(|entry| entry.checkpoint_id != id);
        self.files.forget_retained();
        self.opening.stage = Stage::Claiming;
        self.swap_head(head, HeadPurpose::Claim);
        Ok(())
    }

    fn open_failed(&mut self, error: StorageError, now: i64) {
        let error = match self.strike_damaged(error) {
            Ok(()) => return,
            Err(error) => error,
        };
        self.opening.attempts += 1;
        let hopeless = !matches!(error, StorageError::Unavailable(_));
        // A job that has been taken on for good waits for as long as the store is away.
        if hopeless || (self.opening.attempts >= ATTEMPTS && self.leader_epoch == 0) {
            self.opening.stage = Stage::Failed;
            self.actions.push(CheckpointAction::OpenFailed(error));
        } else {
            self.opening.retry_at = Some(now + (FIRST_PAUSE_MS << (self.opening.attempts - 1).min(5)));
        }
    }

    /// Swaps HEAD to be this JobManager's, with `start` as the only checkpoint if that is claimed.
    fn claim(&mut self, start: Option<&CompletedCheckpoint>) {
        self.opening.stage = Stage::Claiming;
        let mut head = self.head.current().clone();
        if head.leader_epoch > self.leader_epoch && self.leader_epoch > 0 {
            self.opening.stage = Stage::Failed;
            return self.deposed_if(&HeadOutcome::Deposed);
        }
        head.leader_epoch = self.leader_epoch;
        head.format_version = 1;
        head.epoch += 1;
        self.next_id = head.next_checkpoint_id.max(self.next_id);
        head.next_checkpoint_id = self.next_id + ID_BLOCK;
        if self.opening.new_run {
            // What an earlier run of the job left is not continued.
            head.retained.clear();
            head.stopped_with.clear();
            head.first_checkpoint_id = self.next_id;
            head.start_path = self.settings.start.as_ref().map(|start| start.path.clone()).unwrap_or_default();
        }
        self.opening.takes_over = !head.retained.is_empty();
        head.retained.extend(start.map(retained_entry));
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
            // The old leader has written once more while HEAD was being taken over.
            HeadOutcome::Deposed if self.leader_epoch > 0 => {
                self.opening.stage = Stage::LoadingHead;
                self.open(now);
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
            // A claimed checkpoint may share files with others of its job, which are not claimed.
            None if !self.opening.neighbours_read && self.files.claimed_checkpoint().is_some() => {
                let object = self.files.claimed_checkpoint().map(|c| c.metadata_object.clone()).unwrap_or_default();
                self.call(Purpose::Open, StorageRequest::ReadBeside { object });
            }
            None => {
                self.opening.stage = Stage::Open;
                if self.opening.takes_over && self.leader_epoch > 0 {
                    // Tasks that run on may not know yet that the last checkpoint is complete and build
                    // on the one before: until two more are complete, its files must stay.
                    self.sweep_due = Some((2, self.next_id));
                } else if self.opening.takes_over {
                    let own = self.files.retained().iter().filter(|completed| !completed.claimed);
                    let kept = own.map(|completed| completed.id).collect();
                    // Ids of this JobManager begin here: nothing of its own is swept.
                    let ids = self.head.current().first_checkpoint_id..self.next_id;
                    self.call(Purpose::Delete, StorageRequest::Sweep { ids, kept });
                }
                let own = self.files.retained().last().filter(|last| !last.claimed);
                self.stats.last_id = own.map_or(0, |last| last.id);
                self.actions.push(CheckpointAction::Opened);
            }
        }
    }

    fn metadata_read(&mut self, metadata: v1::CheckpointMetadata, now: i64) {
        let Stage::ReadingMetadata(retained) = &mut self.opening.stage else { return };
        if let Some(entry) = retained.pop_front() {
            let mut completed = CompletedCheckpoint::new(entry.metadata_object, Arc::new(metadata));
            completed.claimed = entry.claimed;
            self.files.restore(completed);
        }
        self.read_next_metadata(now);
    }
}
