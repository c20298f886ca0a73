//! Giving up a latest checkpoint whose objects are missing or damaged: HEAD must not name it any more
//! before the one before it is restored, or a successor of this JobManager would try it again.

use super::head::HeadOutcome;
use super::{CheckpointCoordinator, HeadPurpose};

impl CheckpointCoordinator {
    /// Gives up checkpoint `id`, if that is the latest, another is retained, and the job's
    /// configuration allows it. Until HEAD is changed, [`CheckpointCoordinator::in_doubt`].
    pub fn give_up(&mut self, id: u64) -> bool {
        let retained = self.files.retained();
        let earlier = retained.len() > 1 && retained.last().is_some_and(|latest| latest.id == id);
        if !earlier || !self.settings.fall_back || self.deposed || self.ended.is_some() {
            return false;
        }
        if self.giving_up.is_none() {
            tracing::warn!(job = %self.job, checkpoint = id, "a damaged checkpoint is given up for the one before it");
            self.giving_up = Some(id);
            self.swap_given_up();
        }
        true
    }

    /// The checkpoint that would be restored in the place of a damaged latest one.
    pub fn before_latest(&self) -> Option<u64> {
        let retained = self.files.retained();
        retained.len().checked_sub(2).map(|i| retained[i].id)
    }

    pub(super) fn swap_given_up(&mut self) {
        let Some(id) = self.giving_up else { return };
        if self.head.busy() || self.ended.is_some() {
            return;
        }
        let mut head = self.head.current().clone();
        head.retained.retain(|entry| entry.checkpoint_id != id);
        self.swap_head(head, HeadPurpose::GiveUp(id));
    }

    pub(super) fn given_up(&mut self, id: u64, outcome: &HeadOutcome) {
        // Where HEAD cannot be written the checkpoint is tried, and given up, again.
        self.giving_up = None;
        if *outcome == HeadOutcome::Swapped {
            let deletable = self.files.give_up(id);
            self.stats.last_id = self.latest().map_or(0, |latest| latest.id);
            self.delete(deletable);
        }
        self.deposed_if(outcome);
    }
}
