//! The checkpoint coordinator of one job.
//!
//! It decides when a checkpoint starts, collects acknowledgements, and makes it complete: metadata
//! first, then HEAD by compare-and-swap, and only then is anyone told. It also owns retention and
//! deletion ([`files`]) and savepoints. What it wants done it returns as [`CheckpointAction`]s; the
//! job master ([`crate::job`]) knows the tasks and operator coordinators and carries them out.
//!
//! One checkpoint is under way at a time. Ids come from a block that HEAD reserves, so that none is
//! given out twice, not even after a crash.

mod fallback;
pub mod files;
pub mod head;
mod open;
pub mod pending;
mod publish;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::v1;

pub use files::CompletedCheckpoint;
pub use pending::{CheckpointPhase, CheckpointPlan, SavepointRequest, VertexShape};

use crate::error::SchedulerError;
use crate::settings::CheckpointSettings;
use crate::simulator::Bug;
use crate::storage::{StorageError, StorageReply, StorageRequest};
use files::FileTracker;
use head::{HeadStep, HeadWriter};
use open::Opening;
use pending::PendingCheckpoint;

/// Ids that one swap of HEAD reserves ahead.
const ID_BLOCK: u64 = 100;

/// What the coordinator wants done.
#[derive(Debug)]
pub enum CheckpointAction {
    /// Make this call and give its reply to [`CheckpointCoordinator::on_reply`].
    Storage {
        /// Names the call.
        ticket: u64,
        /// The call.
        request: StorageRequest,
    },
    /// HEAD is this JobManager's and the checkpoint to restore is known.
    Opened,
    /// HEAD cannot be had.
    OpenFailed(StorageError),
    /// Snapshot the operator coordinators, call [`CheckpointCoordinator::begin`], inject barriers.
    Trigger(TriggerRequest),
    /// A checkpoint is complete: tell tasks and coordinators.
    Completed {
        /// Its id.
        id: u64,
    },
    /// A checkpoint will not complete: tell tasks.
    Aborted {
        /// Its id.
        id: u64,
    },
    /// Too many checkpoints have failed: fail the job (it may restart).
    FailJob(String),
    /// Another JobManager has taken the job over.
    Deposed,
    /// The savepoint with which the job stops is complete, and HEAD says so: tell tasks and
    /// coordinators. The job must never run again.
    Stopped {
        /// Its id.
        id: u64,
        /// URI of its folder.
        path: String,
    },
    /// Answers a savepoint request; where the job was to stop with it, only when it failed.
    SavepointDone {
        /// As given.
        request: u64,
        /// The savepoint's URI.
        result: Result<String, SchedulerError>,
    },
}

/// What a savepoint is asked for with.
#[derive(Debug, Clone, PartialEq)]
pub struct SavepointWish {
    /// Chosen by who asks; comes with the answer.
    pub request: u64,
    /// The folder below which it goes; `None`: the configured one.
    pub target: Option<String>,
    /// Part of its folder's name; no other savepoint of the job ever has it.
    pub nonce: String,
    /// Whether the job stops with it.
    pub stop: StopMode,
}

/// A checkpoint that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerRequest {
    /// Its id.
    pub id: u64,
    /// Now.
    pub timestamp_ms: i64,
    /// Set for a savepoint.
    pub savepoint: Option<SavepointRequest>,
    /// Asked for by [`CheckpointCoordinator::demand`].
    pub demanded: bool,
}

/// Figures about a job's checkpoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckpointStats {
    /// Checkpoints completed.
    pub completed: u64,
    /// Checkpoints that failed or were aborted.
    pub failed: u64,
    /// Id of the last completed one, 0: none.
    pub last_id: u64,
    /// Size of its state.
    pub last_bytes: u64,
    /// What was uploaded for it.
    pub last_uploaded_bytes: u64,
    /// From its trigger to its completion.
    pub last_duration_ms: u64,
    /// Uploaded for all.
    pub uploaded_bytes: u64,
    /// When the last completed one was complete; 0: none is.
    pub last_time_ms: i64,
    /// Why the one that failed last did, and when.
    pub last_failure: Option<(String, i64)>,
}

/// What the call behind a ticket is for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Purpose {
    Open,
    Head,
    Metadata { checkpoint: u64, savepoint: bool },
    Delete,
}

/// What the swap of HEAD under way is for.
#[derive(Debug)]
enum HeadPurpose {
    Claim,
    Reserve,
    GiveUp(u64),
    Publish(Box<CompletedCheckpoint>),
    /// The savepoint with which the job stops.
    Stop(String),
    End,
}

/// See the module documentation.
#[derive(Debug)]
pub struct CheckpointCoordinator {
    job: JobId,
    /// For people.
    job_name: String,
    settings: CheckpointSettings,
    opening: Opening,
    head: HeadWriter,
    head_purpose: Option<HeadPurpose>,
    files: FileTracker,
    pending: Option<PendingCheckpoint>,
    savepoints: VecDeque<SavepointRequest>,
    tickets: BTreeMap<u64, Purpose>,
    next_ticket: u64,
    next_id: u64,
    /// All tasks run and none is known to have failed.
    running: bool,
    /// A checkpoint is wanted at once.
    demanded: bool,
    next_trigger_ms: Option<i64>,
    /// A failed last checkpoint is tried again, not before this time.
    last_retry_ms: i64,
    last_completion_ms: i64,
    failures_in_row: u32,
    all_sources_ended: bool,
    last_completed: bool,
    /// The job has been stopped with a savepoint.
    stopped: bool,
    ended: Option<EndState>,
    /// The damaged checkpoint that HEAD is not to name any more.
    giving_up: Option<u64>,
    deposed: bool,
    /// Of the JobManager's lease; 0: there is none.
    leader_epoch: u64,
    /// The job has ended under an earlier leader: only the end is left to be done.
    finishing: bool,
    /// What earlier leaders have left is swept after so many more checkpoints, below an id.
    sweep_due: Option<(u32, u64)>,
    stats: CheckpointStats,
    transitions: BTreeMap<(CheckpointPhase, CheckpointPhase), u64>,
    actions: Vec<CheckpointAction>,
    /// For a test of the simulator.
    bug: Option<Bug>,
}

#[derive(Debug, Clone, PartialEq)]
struct EndState {
    status: String,
    keep: bool,
    swapped: bool,
}

impl CheckpointCoordinator {
    /// For a job whose tasks write below `directory`, run by the JobManager `leader`: a name that no
    /// other ever has.
    pub fn new(job: JobId, job_name: String, leader: String, settings: CheckpointSettings, directory: String) -> Self {
        CheckpointCoordinator {
            job,
            job_name,
            settings,
            opening: Opening::default(),
            head: HeadWriter::new(leader),
            head_purpose: None,
            files: FileTracker::new(directory),
            pending: None,
            savepoints: VecDeque::new(),
            tickets: BTreeMap::new(),
            next_ticket: 1,
            next_id: 1,
            running: false,
            demanded: false,
            next_trigger_ms: None,
            last_retry_ms: 0,
            last_completion_ms: i64::MIN / 2,
            failures_in_row: 0,
            all_sources_ended: false,
            last_completed: false,
            stopped: false,
            ended: None,
            giving_up: None,
            deposed: false,
            leader_epoch: 0,
            finishing: false,
            sweep_due: None,
            stats: CheckpointStats::default(),
            transitions: BTreeMap::new(),
            actions: Vec::new(),
            bug: None,
        }
    }

    /// Breaks the coordinator. Only for showing that the simulator notices.
    #[doc(hidden)]
    pub fn break_with(&mut self, bug: Bug) {
        self.bug = Some(bug);
    }

    /// This JobManager leads by a lease of that epoch: it takes HEAD from every earlier one. With
    /// `finishing` the job has ended and only its end is left to be done.
    pub fn lead(&mut self, epoch: u64, finishing: bool) {
        self.leader_epoch = epoch;
        self.finishing = finishing;
    }

    /// Another JobManager goes on: nothing is written or deleted any more.
    pub fn abandon(&mut self) {
        self.deposed = true;
        self.suspend("another JobManager goes on with the job");
        self.ended = Some(EndState { status: String::new(), keep: true, swapped: true });
    }

    /// Periodic checkpoints are on.
    pub fn enabled(&self) -> bool {
        self.settings.interval_ms.is_some()
    }

    /// Figures.
    pub fn stats(&self) -> &CheckpointStats {
        &self.stats
    }

    /// The checkpoint under way.
    pub fn pending_id(&self) -> Option<u64> {
        self.pending.as_ref().map(|pending| pending.id)
    }

    /// The checkpoint under way.
    pub fn pending(&self) -> Option<&PendingCheckpoint> {
        self.pending.as_ref()
    }

    /// How often each transition was taken.
    pub fn transitions(&self) -> &BTreeMap<(CheckpointPhase, CheckpointPhase), u64> {
        &self.transitions
    }

    /// The checkpoint that a restart restores.
    pub fn latest(&self) -> Option<&CompletedCheckpoint> {
        match self.bug {
            Some(Bug::RestartFromOlderCheckpoint) => self.files.retained().first(),
            _ => self.files.latest(),
        }
    }

    /// The last checkpoint that this run of the job has completed.
    pub fn latest_own(&self) -> Option<&CompletedCheckpoint> {
        self.files.retained().last().filter(|last| !last.claimed)
    }

    /// Whether it is unknown which checkpoint is the latest: HEAD may name the one under way, or not
    /// yet; or it names one that is being given up.
    pub fn in_doubt(&self) -> bool {
        matches!(self.head_purpose, Some(HeadPurpose::Publish(_) | HeadPurpose::Stop(_))) || self.giving_up.is_some()
    }

    /// The savepoint with which an earlier leader has stopped the job.
    pub fn stopped_with(&self) -> Option<&str> {
        Some(self.head.current().stopped_with.as_str()).filter(|path| !path.is_empty())
    }

    /// Nothing is left to be done after the end of the job.
    pub fn closed(&self) -> bool {
        self.ended.is_some() && self.tickets.is_empty() && self.head_purpose.is_none()
    }

    /// When something is due by itself.
    pub fn deadline(&self) -> Option<i64> {
        let pending = self.pending.as_ref().filter(|p| p.phase != CheckpointPhase::Publishing);
        let expiry = pending.map(|pending| pending.deadline_ms);
        let times = [expiry, self.head.deadline(), self.opening.deadline(), self.trigger_time()];
        times.into_iter().flatten().min()
    }

    /// What was wanted done since the last call.
    pub fn take_actions(&mut self) -> Vec<CheckpointAction> {
        std::mem::take(&mut self.actions)
    }

    /// The next of them. What is carried out may end the job's running, and so withdraw what follows.
    pub fn next_action(&mut self) -> Option<CheckpointAction> {
        (!self.actions.is_empty()).then(|| self.actions.remove(0))
    }

    /// Whether [`CheckpointCoordinator::take_actions`] has something to give.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// All tasks run: checkpoints may start. `initial_delay_ms` is the time to the very first; after
    /// a restart the rhythm goes on.
    pub fn start(&mut self, now: i64, initial_delay_ms: u64) {
        self.running = true;
        if self.enabled() {
            let first = now + initial_delay_ms as i64;
            self.next_trigger_ms = Some(self.next_trigger_ms.map_or(first, |next| next.max(now)));
        }
        self.tick(now);
    }

    /// Some task does not run (any more): aborts what is under way.
    pub fn suspend(&mut self, reason: &str) {
        self.running = false;
        self.demanded = false;
        self.all_sources_ended = false;
        self.last_completed = false;
        if self.bug == Some(Bug::StaleAcknowledgement) {
            return;
        }
        self.abort(reason, false, i64::MIN);
        self.withdraw_triggers();
        for savepoint in std::mem::take(&mut self.savepoints) {
            self.answer_savepoint(&savepoint, Err(SchedulerError::Precondition(reason.to_owned())));
        }
    }

    /// What was due when all tasks ran must not begin when they do not: nobody would acknowledge it.
    fn withdraw_triggers(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                CheckpointAction::Trigger(trigger) => self.savepoints.extend(trigger.savepoint),
                action => self.actions.push(action),
            }
        }
    }

    /// A checkpoint is due and has not begun.
    fn is_triggering(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, CheckpointAction::Trigger(_)))
    }

    /// Every source task has (or has not, after a restart) come to the end of its data.
    pub fn set_all_sources_ended(&mut self, ended: bool, now: i64) {
        self.all_sources_ended = ended;
        self.tick(now);
    }

    /// Asks for a savepoint.
    pub fn savepoint(&mut self, wanted: SavepointWish, now: i64) {
        let SavepointWish { request, target, nonce, stop } = wanted;
        let folder = target.filter(|t| !t.is_empty()).or_else(|| self.settings.savepoint_folder.clone());
        let refusal = match &folder {
            None => "a savepoint needs a folder: give one, or set execution.checkpointing.savepoint-dir".to_owned(),
            Some(_) if !self.running => format!("job {} cannot take a savepoint: it is not running", self.job),
            Some(_) if self.stopped || self.is_stopping() => {
                format!("job {} is being stopped with a savepoint already", self.job)
            }
            Some(_) => String::new(),
        };
        let folder = format!(
            "{}/savepoint-{}-{nonce}",
            folder.unwrap_or_default().trim_end_matches('/'),
            self.job.as_str().get(..6).unwrap_or_default()
        );
        let savepoint = SavepointRequest { request, folder, stop };
        if !refusal.is_empty() {
            self.answer_savepoint(&savepoint, Err(SchedulerError::Precondition(refusal)));
            return;
        }
        self.savepoints.push_back(savepoint);
        self.tick(now);
    }

    /// A checkpoint is wanted as soon as none is under way: the next one to begin, whatever pause is set.
    /// Asking again changes nothing. When it fails it does not count for what is tolerated.
    pub fn demand(&mut self, now: i64) {
        if self.enabled() && self.running && !self.demanded {
            self.demanded = true;
            self.tick(now);
        }
    }

    /// A savepoint with which the job stops is wanted or under way.
    fn is_stopping(&self) -> bool {
        let pending = self.pending.as_ref().and_then(|pending| pending.savepoint.as_ref());
        self.savepoints.iter().chain(pending).any(|savepoint| savepoint.stop != StopMode::None)
    }

    /// Time has passed, or something has changed that may allow a trigger.
    pub fn tick(&mut self, now: i64) {
        if let Some(request) = self.head.tick(now) {
            self.call(Purpose::Head, request);
        }
        if self.opening.retry_due(now) {
            self.open(now);
        }
        let expired = |p: &PendingCheckpoint| p.deadline_ms <= now && p.phase != CheckpointPhase::Publishing;
        if self.pending.as_ref().is_some_and(expired) {
            let reason = format!("it was not complete within {} ms", self.settings.timeout_ms);
            self.abort(&reason, true, now);
        }
        if self.trigger_time().is_some_and(|time| time <= now) {
            self.trigger(now);
        }
    }

    /// When the next checkpoint is due, if one may start at all.
    fn trigger_time(&self) -> Option<i64> {
        let free = self.pending.is_none() && !self.is_triggering() && !self.head.busy();
        let free = free && self.ended.is_none() && !self.stopped;
        if !free || !self.running || !self.opening.is_open() {
            return None;
        }
        if !self.savepoints.is_empty() {
            return Some(i64::MIN);
        }
        if self.demanded {
            return Some(self.last_retry_ms);
        }
        // Periodic ones go on behind it: a restored task may not have come to its end in it.
        let last_due = self.all_sources_ended && !self.last_completed && self.settings.after_tasks_finish;
        if last_due && self.enabled() {
            return Some(self.last_retry_ms);
        }
        let next = self.next_trigger_ms?;
        Some(next.max(self.last_completion_ms.saturating_add(self.settings.min_pause_ms as i64)))
    }

    fn trigger(&mut self, now: i64) {
        if self.enabled() && self.next_id >= self.head.current().next_checkpoint_id {
            let mut head = self.head.current().clone();
            head.next_checkpoint_id = self.next_id + ID_BLOCK;
            self.swap_head(head, HeadPurpose::Reserve);
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let savepoint = self.savepoints.pop_front();
        let demanded = savepoint.is_none() && std::mem::take(&mut self.demanded);
        if savepoint.is_none()
            && let Some(interval) = self.settings.interval_ms
        {
            let interval = interval as i64;
            let planned = if demanded { now } else { self.next_trigger_ms.unwrap_or(now) };
            let delayed = self.last_completion_ms.saturating_add(self.settings.min_pause_ms as i64) > planned;
            // A min pause that delays the trigger shifts the phase; a slow checkpoint does not.
            let next = if delayed { now } else { planned } + interval;
            self.next_trigger_ms = Some(next.max(now));
        }
        self.actions.push(CheckpointAction::Trigger(TriggerRequest { id, timestamp_ms: now, savepoint, demanded }));
    }

    /// Starts the checkpoint asked for by [`CheckpointAction::Trigger`].
    pub fn begin(&mut self, trigger: TriggerRequest, plan: CheckpointPlan) {
        let times = (trigger.timestamp_ms, trigger.timestamp_ms + self.settings.timeout_ms as i64);
        let last = self.all_sources_ended && trigger.savepoint.is_none();
        if let Some(savepoint) = &trigger.savepoint {
            self.files.savepoint_begins(&savepoint.folder);
        }
        let mut pending = PendingCheckpoint::new(trigger.id, plan, trigger.savepoint, last, times);
        pending.demanded = trigger.demanded;
        self.pending = Some(pending);
        self.write_metadata_if_complete();
    }

    /// A task, current and alive, has taken its snapshot.
    pub fn acknowledge(&mut self, task: usize, checkpoint: u64, snapshot: v1::SubtaskSnapshot, now: i64) {
        if self.files.refers_to_deleted(&snapshot) {
            if self.pending_id() == Some(checkpoint) {
                self.abort("a task built on a file that is deleted already", false, now);
            }
            return;
        }
        let accepted = match &mut self.pending {
            Some(pending) if pending.id == checkpoint => pending.acknowledge(task, snapshot.clone()),
            _ => false,
        };
        if accepted { self.write_metadata_if_complete() } else { self.discard(&snapshot) }
    }

    /// An acknowledgement that counts for nothing: what was uploaded for it can go.
    pub fn discard(&mut self, snapshot: &v1::SubtaskSnapshot) {
        let none = Default::default();
        let pending = self.pending.as_ref().map_or(&none, PendingCheckpoint::objects);
        let objects = match &self.head_purpose {
            Some(HeadPurpose::Publish(completed)) => self.files.discard([snapshot], completed.objects()),
            _ => self.files.discard([snapshot], pending),
        };
        self.delete(objects);
    }

    /// A task cannot take part.
    pub fn decline(&mut self, checkpoint: u64, task: &str, reason: &str, now: i64) {
        if self.pending.as_ref().is_some_and(|p| p.id == checkpoint && p.phase == CheckpointPhase::Acknowledging) {
            self.abort(&format!("{task} declined: {reason}"), true, now);
        }
    }

    /// A task has finished. If its acknowledgement was awaited it will not come.
    pub fn task_finished(&mut self, task: usize, now: i64) {
        if self.pending.as_ref().is_some_and(|pending| pending.awaits(task)) {
            self.abort("a task finished before its barrier", false, now);
        }
    }

    fn write_metadata_if_complete(&mut self) {
        let Some(pending) = &self.pending else { return };
        let enough = match self.bug {
            Some(Bug::CompleteWithoutOneSubtask) => pending.missing() <= 1,
            _ => pending.is_complete(),
        };
        if !enough || pending.phase != CheckpointPhase::Acknowledging {
            return;
        }
        self.move_pending(CheckpointPhase::WritingMetadata);
        self.write_metadata();
    }

    /// Gives up the checkpoint under way, unless HEAD may name it already.
    fn abort(&mut self, reason: &str, counted: bool, now: i64) {
        if self.pending.as_ref().is_none_or(|pending| pending.phase == CheckpointPhase::Publishing) {
            return;
        }
        self.move_pending(CheckpointPhase::Aborted);
        self.drop_pending(reason, counted, now);
    }

    fn drop_pending(&mut self, reason: &str, counted: bool, now: i64) {
        let Some(pending) = self.pending.take() else { return };
        // Some callers have no clock; then the trigger is the best that is known.
        let failed_ms = if now > 0 { now } else { pending.timestamp_ms };
        tracing::info!(job = %self.job, checkpoint = pending.id, reason, "checkpoint aborted");
        let deletable = self.files.discard(pending.snapshots(), &Default::default());
        self.stats.failed += 1;
        self.stats.last_failure = Some((format!("checkpoint {}: {reason}", pending.id), failed_ms));
        self.last_retry_ms = now.saturating_add(self.settings.interval_ms.unwrap_or(0).min(1000) as i64);
        self.actions.push(CheckpointAction::Aborted { id: pending.id });
        self.delete(deletable);
        if let Some(savepoint) = &pending.savepoint {
            self.delete_folder(savepoint.folder.clone());
            let message = format!("the savepoint failed: {reason}");
            self.answer_savepoint(savepoint, Err(SchedulerError::Precondition(message)));
        } else if counted && !pending.demanded {
            self.failures_in_row += 1;
            if self.failures_in_row > self.settings.tolerable_failures {
                let id = pending.id;
                self.failures_in_row = 0;
                self.actions.push(CheckpointAction::FailJob(format!(
                    "checkpoint {id} failed: {reason} (execution.checkpointing.tolerable-failed-checkpoints is {})",
                    self.settings.tolerable_failures
                )));
            }
        }
    }

    fn move_pending(&mut self, to: CheckpointPhase) {
        if let Some(pending) = &mut self.pending {
            let step = (pending.phase, to);
            debug_assert!(CheckpointPhase::TRANSITIONS.contains(&step), "a checkpoint moves along its table: {step:?}");
            *self.transitions.entry(step).or_default() += 1;
            pending.phase = to;
        }
    }

    fn answer_savepoint(&mut self, savepoint: &SavepointRequest, result: Result<String, SchedulerError>) {
        self.actions.push(CheckpointAction::SavepointDone { request: savepoint.request, result });
    }

    fn swap_head(&mut self, head: v1::Head, purpose: HeadPurpose) {
        let request = self.head.swap(head);
        self.head_purpose = Some(purpose);
        self.call(Purpose::Head, request);
    }

    fn delete(&mut self, objects: Vec<String>) {
        // The checkpoint under way may have become the truth before someone else took over.
        if !objects.is_empty() && !self.deposed {
            self.call(Purpose::Delete, StorageRequest::Delete { objects });
        }
    }

    /// Removes what is left of a savepoint that failed.
    fn delete_folder(&mut self, folder: String) {
        if !self.deposed {
            self.call(Purpose::Delete, StorageRequest::DeleteFolder { folder });
        }
    }

    fn call(&mut self, purpose: Purpose, request: StorageRequest) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, purpose);
        self.actions.push(CheckpointAction::Storage { ticket, request });
    }

    /// The answer to a call.
    pub fn on_reply(&mut self, ticket: u64, reply: StorageReply, now: i64) {
        match self.tickets.remove(&ticket) {
            Some(Purpose::Open) => self.on_open_reply(reply, now),
            Some(Purpose::Head) => match self.head.on_reply(reply, now) {
                HeadStep::Request(request) => self.call(Purpose::Head, request),
                HeadStep::Wait => {}
                HeadStep::Done(outcome) => self.head_done(outcome, now),
            },
            Some(Purpose::Metadata { checkpoint, savepoint }) => {
                self.on_metadata_reply(checkpoint, savepoint, reply, now);
            }
            Some(Purpose::Delete) => {
                if let StorageReply::Deleted(Err(error)) = reply {
                    tracing::warn!(job = %self.job, %error, "objects of old checkpoints cannot be deleted");
                }
            }
            None => {}
        }
    }
}
