//! Stop-with-savepoint.
//!
//! | event while StoppingWithSavepoint | then |
//! | --- | --- |
//! | the savepoint is complete and HEAD says so | tasks are told, sinks commit, tasks end |
//! | all tasks have finished | the job is Finished |
//! | the savepoint fails, no drain | tasks go on where they were: Running |
//! | the savepoint fails, drain | operators have finished already: all tasks restart from the last checkpoint |
//! | a task fails before the savepoint is complete | the savepoint fails; a restart as ever (with drain of all) |
//! | the JobManager is lost after that | the next leader tells the tasks, if all wait behind the savepoint or have finished; else the job is Failed |
//! | a task fails after that | Failing: sinks may have committed, so the job must never run again from an older checkpoint |
//!
//! What a sink had not committed in the last case is in the savepoint and is committed by whoever starts
//! from it.

use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::v1;

use super::state::JobState;
use super::{JobAction, JobMaster};
use crate::checkpoint::SavepointWish;
use crate::error::SchedulerError;

/// A stop under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stop {
    /// `None`: an earlier leader was asked.
    request: Option<u64>,
    pub(super) drain: bool,
    /// Of the savepoint, once that is complete.
    path: Option<String>,
}

impl JobMaster {
    /// The user wants the job to stop with a savepoint.
    pub(super) fn stop(&mut self, wish: SavepointWish, now: i64) {
        if self.stop.is_some() {
            let message = format!("job {} is being stopped with a savepoint already", self.id);
            self.answer_stop(Some(wish.request), Err(message));
            return;
        }
        if self.state != JobState::Running {
            let state = self.state.status(self.restarts > 0);
            let message = format!("job {} is {state}: only a RUNNING job can be stopped with a savepoint", self.id);
            self.answer_stop(Some(wish.request), Err(message));
            return;
        }
        self.stop = Some(Stop { request: Some(wish.request), drain: wish.stop == StopMode::Drain, path: None });
        self.transition(JobState::StoppingWithSavepoint, now);
        self.checkpoints.savepoint(wish, now);
    }

    /// The savepoint is complete, and so the job must end.
    pub(super) fn on_stopped(&mut self, id: u64, path: String, now: i64) {
        if let Some(stop) = &mut self.stop {
            stop.path = Some(path);
        }
        match self.state {
            JobState::StoppingWithSavepoint => {
                self.notify_complete(id, now);
            }
            // A task has failed while it was not known whether the savepoint was complete.
            JobState::Restarting => {
                let message = self.root_cause.clone();
                self.fail_stopped(&message, now);
            }
            _ => {}
        }
        self.actions.push(JobAction::Changed);
    }

    /// A savepoint was answered with an error. True: it was that with which the job stops.
    pub(super) fn on_savepoint_failed(&mut self, request: u64, error: &SchedulerError, now: i64) -> bool {
        let Some(stop) = self.stop.take_if(|stop| stop.request == Some(request)) else { return false };
        self.answer_stop(Some(request), Err(error.to_string()));
        if self.state == JobState::StoppingWithSavepoint {
            self.transition(JobState::Running, now);
            if stop.drain && self.checkpoints.enabled() {
                let message = format!("the job was to stop and restarts: {error}");
                self.history.root(v1::FailureRecord { time_ms: now, message, ..Default::default() });
                self.restarts += 1;
                let all: Vec<usize> = (0..self.topology.regions.len()).collect();
                self.restart_regions(&all, i64::MIN, now);
            } else if stop.drain {
                self.fail_globally(&error.to_string(), now);
            } else {
                self.update_sources_ended(now);
            }
            self.advance_again = true;
        }
        true
    }

    /// An earlier leader has stopped the job with the savepoint `path`.
    pub(super) fn resume_stop(&mut self, path: String) {
        self.stop = Some(Stop { request: None, drain: false, path: Some(path) });
    }

    /// The savepoint of a stopped job is not one to go on from without the user: it ends.
    pub(super) fn stopped_before(&self) -> String {
        let path = self.stop.as_ref().and_then(|stop| stop.path.clone()).unwrap_or_default();
        format!("the job was stopped with savepoint {path}: start a job from that to go on")
    }

    /// Whether the savepoint with which the job stops is complete.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.path.is_some())
    }

    /// Something has failed although the job was stopped already.
    pub(super) fn fail_stopped(&mut self, message: &str, now: i64) {
        let path = self.stop.as_ref().and_then(|stop| stop.path.clone()).unwrap_or_default();
        self.fail_job(&format!("{message}; the job was stopped with savepoint {path}: go on from that"), now);
    }

    /// The job has ended: whoever stopped it is told how.
    pub(super) fn answer_stop_at_end(&mut self) {
        let Some(stop) = self.stop.take() else { return };
        let state = self.state.status(true);
        let result = match stop.path {
            Some(path) if self.state == JobState::Finished => Ok(path),
            Some(path) => Err(format!(
                "the savepoint {path} is complete, but the job ended {state} before all tasks had finished: sinks may not \
                 have committed all that belongs to it; a job that starts from it does"
            )),
            None => Err(format!("the savepoint failed: the job ended {state}")),
        };
        self.answer_stop(stop.request, result);
    }

    fn answer_stop(&mut self, request: Option<u64>, result: Result<String, String>) {
        let Some(request) = request else { return };
        let result = result.map_err(SchedulerError::Precondition);
        self.actions.push(JobAction::SavepointDone { request, result });
    }
}
