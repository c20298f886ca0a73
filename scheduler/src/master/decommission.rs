//! TaskManagers that are to go: who says so, and that they are told when nothing is left on them.
//!
//! A notice comes from the TaskManager (a signal, a file), which tells it to each leader that it
//! registers with, or from a user; then the TaskManager is told, so that the next leader hears of it.
//! Jobs see it in the slots ([`crate::slots`]) and move by themselves.

use hurtig_graph::config::keys;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1;

use super::{Action, Master};
use crate::error::{Result, SchedulerError};
use crate::job::state::JobState;
use crate::job::{JobEvent, JobMaster};
use crate::slots::{Notice, SessionId};

/// Of a notice by [`Master::decommission`].
const BY_REQUEST: &str = "request";

impl Master {
    /// A user wants a TaskManager to go.
    ///
    /// # Errors
    /// There is none of this resource id, or it is switched off.
    pub fn decommission(&mut self, request: &v1::DecommissionTaskManagerRequest, now: i64) -> Result<Vec<Action>> {
        if !self.settings.graceful_decommission {
            let key = keys::GRACEFUL_DECOMMISSION.key;
            return Err(SchedulerError::Precondition(format!(
                "TaskManagers are not decommissioned: set {key} to true"
            )));
        }
        let id = &request.resource_id;
        let found = self.pool.iter().find(|(_, t)| t.resource_id == *id).map(|(session, _)| session);
        let session = found.ok_or_else(|| SchedulerError::UnknownTaskManager(id.clone()))?;
        let notice = internal::DecommissionNotice { source: BY_REQUEST.to_owned(), remaining_ms: request.remaining_ms };
        self.send(session, ToTask::Decommission(notice.clone()));
        self.on_notice(session, &notice, now);
        self.tell_drained();
        Ok(std::mem::take(&mut self.actions))
    }

    pub(super) fn on_notice(&mut self, session: SessionId, notice: &internal::DecommissionNotice, now: i64) {
        if !self.settings.graceful_decommission {
            // It is not to wait for what nobody does.
            return self.send(session, ToTask::Drained(internal::Drained {}));
        }
        let remaining = i64::try_from(notice.remaining_ms).unwrap_or(i64::MAX);
        let deadline_ms = (remaining > 0).then(|| now.saturating_add(remaining));
        let new = Notice { source: notice.source.clone(), since_ms: now, deadline_ms };
        let first = self.pool.decommission(session, new);
        if first && let Some(taskmanager) = self.pool.get(session) {
            let (resource_id, source) = (&taskmanager.resource_id, &notice.source);
            tracing::info!(resource_id, source, remaining_ms = notice.remaining_ms, "a TaskManager is to go");
        }
        self.tell_all(|| JobEvent::SlotsChanged, None, now);
    }

    /// Tells TaskManagers that are to go once no job has a slot there.
    pub(super) fn tell_drained(&mut self) {
        // A job that has not taken over yet what runs for it does not have its slots.
        let unknown = |job: &JobMaster| matches!(job.state(), JobState::Created | JobState::Reconciling);
        if self.jobs.values().any(unknown) {
            return;
        }
        for session in self.pool.take_drained() {
            if let Some(taskmanager) = self.pool.get(session) {
                tracing::info!(resource_id = taskmanager.resource_id, "nothing is left on a TaskManager that is to go");
            }
            self.send(session, ToTask::Drained(internal::Drained {}));
        }
    }
}
