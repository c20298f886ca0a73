//! Storage calls: what becomes of them, and what HEAD says then.

use rand::Rng;

use super::leaders::{Caller, Term};
use super::{Happening, Outcome, World};
use crate::simulator::Bug;
use crate::simulator::invariants;
use crate::simulator::scenario::Fault;
use crate::simulator::store::Fate;
use crate::simulator::task::Task;
use crate::storage::{StorageError, StorageReply, StorageRequest};

impl World {
    pub(super) fn call_store(&mut self, term: Term, ticket: u64, mut request: StorageRequest) {
        if let (Some(Bug::SharedFileDeletedEarly), StorageRequest::Delete { objects }) = (self.bug, &mut request) {
            objects.extend(self.store.referenced().iter().take(1).map(|file| (*file).to_owned()));
        }
        let (there, back) = (self.rng.random_range(1..60), self.rng.random_range(1..60));
        let timeout = self.rng.random_range(500..2_500);
        let lost = || StorageReply::of(&request, StorageError::Unavailable("no answer".into()));
        let mut fate = self.fate(&request);
        if self.manager_of(Caller::Master(term)).is_some_and(|m| self.managers[m].cut_until > self.now) {
            fate = Fate::RequestLost;
        }
        match fate {
            Fate::Works => self.later(there, Happening::StoreDoes(term, ticket, request, Some(back))),
            Fate::RequestLost => {
                let reply = lost();
                self.later(timeout, Happening::StoreAnswers(term, ticket, reply));
            }
            Fate::AnswerLost => {
                let reply = lost();
                self.later(there, Happening::StoreDoes(term, ticket, request, None));
                self.later(timeout, Happening::StoreAnswers(term, ticket, reply));
            }
            Fate::DoneLate => {
                let reply = lost();
                self.later(timeout, Happening::StoreAnswers(term, ticket, reply));
                let late = timeout + self.rng.random_range(0..4_000);
                self.later(late, Happening::StoreDoes(term, ticket, request, None));
            }
            Fate::Refused => {
                let reply = StorageReply::of(&request, StorageError::Permanent("access denied".into()));
                self.later(back, Happening::StoreAnswers(term, ticket, reply));
            }
        }
    }

    pub(super) fn fate(&mut self, request: &StorageRequest) -> Fate {
        if self.scenario.store_refuses {
            return Fate::Refused;
        }
        if self.faults_over || self.rng.random_range(0..100) >= self.scenario.store_faults_percent {
            return Fate::Works;
        }
        match self.rng.random_range(0..9) {
            0 | 1 => Fate::RequestLost,
            2 | 3 => Fate::AnswerLost,
            4 | 5 => Fate::DoneLate,
            _ if matches!(request, StorageRequest::LoadHead | StorageRequest::ReadMetadata { .. }) => Fate::RequestLost,
            _ => Fate::Refused,
        }
    }

    pub(super) fn store_does(&mut self, term: Term, request: &StorageRequest) -> Result<StorageReply, String> {
        if let StorageRequest::Delete { objects } = request {
            invariants::before_delete(objects, &self.store)?;
            for object in objects {
                self.store.files.remove(object);
            }
        }
        if let StorageRequest::DeleteFolder { folder } = request {
            invariants::before_delete(std::slice::from_ref(folder), &self.store)?;
            let inside = format!("{folder}/");
            self.store.files.retain(|file| !file.starts_with(&inside));
        }
        let epoch = |store: &crate::simulator::store::Store| {
            store.objects.head.as_ref().map_or(0, |(head, _)| head.leader_epoch)
        };
        let before = epoch(&self.store);
        let reply = self.store.apply(request);
        if matches!(reply, StorageReply::Swapped(Ok(_))) {
            let after = epoch(&self.store);
            if after < before {
                return Err(format!("the leader of epoch {after} has swapped HEAD of epoch {before}"));
            }
            self.head_changed(term)?;
        }
        Ok(reply)
    }

    /// The last checkpoint is complete: tasks are about to finish.
    fn cancel_at_finish(&mut self) {
        let mut tasks = self.processes.iter().flat_map(|process| process.tasks.values());
        if self.scenario.cancel_at_finish && tasks.all(Task::has_ended) {
            self.scenario.cancel_at_finish = false;
            let after = self.rng.random_range(0..60);
            self.later(after, Happening::Fault(Fault::Cancel));
        }
    }

    pub(super) fn head_changed(&mut self, term: Term) -> Outcome {
        let retained = self.store.objects.head.iter().flat_map(|(head, _)| &head.retained);
        let new: Vec<u64> = retained.map(|r| r.checkpoint_id).filter(|id| !self.store.completed.contains(id)).collect();
        for id in new {
            // The one that has asked for it may be gone.
            let leading = self.managers.iter().filter_map(|m| m.leading.as_ref()).find(|l| l.term == term);
            let job = leading.and_then(|l| l.master.find(self.job.as_str()).ok());
            invariants::on_completed(id, job, &self.store, &self.scenario)?;
            self.store.completed.insert(id);
            self.cancel_at_finish();
        }
        if self.store.stopped_with().is_some() && std::mem::take(&mut self.scenario.fail_when_stopped) {
            let after = self.rng.random_range(0..80);
            self.later(after, Happening::Fault(Fault::FailTask));
        }
        Ok(())
    }
}
