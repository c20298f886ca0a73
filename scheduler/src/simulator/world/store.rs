//! Storage calls: what becomes of them, and what HEAD says then.

use rand::Rng;

use super::{Happening, Outcome, World};
use crate::simulator::invariants;
use crate::simulator::scenario::Fault;
use crate::simulator::store::Fate;
use crate::storage::{StorageError, StorageReply, StorageRequest};

impl World {
    pub(super) fn call_store(&mut self, ticket: u64, request: StorageRequest) {
        let (there, back) = (self.rng.random_range(1..60), self.rng.random_range(1..60));
        let timeout = self.rng.random_range(500..2_500);
        let lost = || StorageReply::of(&request, StorageError::Unavailable("no answer".into()));
        match self.fate(&request) {
            Fate::Works => self.later(there, Happening::StoreDoes(ticket, request, Some(back))),
            Fate::RequestLost => {
                let reply = lost();
                self.later(timeout, Happening::StoreAnswers(ticket, reply));
            }
            Fate::AnswerLost => {
                let reply = lost();
                self.later(there, Happening::StoreDoes(ticket, request, None));
                self.later(timeout, Happening::StoreAnswers(ticket, reply));
            }
            Fate::DoneLate => {
                let reply = lost();
                self.later(timeout, Happening::StoreAnswers(ticket, reply));
                let late = timeout + self.rng.random_range(0..4_000);
                self.later(late, Happening::StoreDoes(ticket, request, None));
            }
            Fate::Refused => {
                let reply = StorageReply::of(&request, StorageError::Permanent("access denied".into()));
                self.later(back, Happening::StoreAnswers(ticket, reply));
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
        match self.rng.random_range(0..8) {
            0 | 1 => Fate::RequestLost,
            2 | 3 => Fate::AnswerLost,
            4 | 5 => Fate::DoneLate,
            _ if matches!(request, StorageRequest::LoadHead | StorageRequest::ReadMetadata { .. }) => Fate::RequestLost,
            _ => Fate::Refused,
        }
    }

    pub(super) fn store_does(&mut self, request: &StorageRequest) -> Result<StorageReply, String> {
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
        let reply = self.store.objects.apply(request);
        if matches!(reply, StorageReply::Swapped(Ok(_))) {
            self.head_changed()?;
        }
        Ok(reply)
    }

    pub(super) fn head_changed(&mut self) -> Outcome {
        let retained = self.store.objects.head.iter().flat_map(|(head, _)| &head.retained);
        let new: Vec<u64> = retained.map(|r| r.checkpoint_id).filter(|id| !self.store.completed.contains(id)).collect();
        for id in new {
            let job = self.master.find(self.job.as_str()).map_err(|error| error.to_string())?;
            invariants::on_completed(id, job, &self.store, &self.scenario)?;
            self.store.completed.insert(id);
        }
        if self.store.stopped_with().is_some() && std::mem::take(&mut self.scenario.fail_when_stopped) {
            let after = self.rng.random_range(0..150);
            self.later(after, Happening::Fault(Fault::FailTask));
        }
        Ok(())
    }
}
