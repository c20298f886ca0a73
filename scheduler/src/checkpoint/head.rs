//! Changing HEAD by compare-and-swap, and finding out whether it worked.
//!
//! | waiting for | answer | then |
//! | --- | --- | --- |
//! | swap | new version | done |
//! | swap | refused for good, and no earlier attempt is in doubt | failed |
//! | swap | anything else | read back, after a pause unless it was a conflict |
//! | read back | the intended content | done |
//! | read back | the old version | swap again: only that fences off an attempt still under way |
//! | read back | something else | deposed: another JobManager has written |
//! | read back | an error | read back again after a pause |

use hurtig_proto::v1;

use crate::storage::{StorageError, StorageReply, StorageRequest, Version};

/// Between two attempts when the store does not answer.
const RETRY_PAUSE_MS: i64 = 1000;

/// What comes of a swap.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadOutcome {
    /// HEAD has the intended content.
    Swapped,
    /// Certainly nothing was written.
    Failed(StorageError),
    /// Another JobManager has written HEAD.
    Deposed,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum HeadStep {
    /// Make this call and give its reply to [`HeadWriter::on_reply`].
    Request(StorageRequest),
    /// Call [`HeadWriter::tick`] later.
    Wait,
    /// The swap has ended.
    Done(HeadOutcome),
}

#[derive(Debug)]
struct Swap {
    intended: v1::Head,
    in_doubt: bool,
    state: SwapState,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum SwapState {
    Swapping,
    ReadingBack,
    PausedUntil(i64),
}

/// HEAD as last known, and the swap under way.
#[derive(Debug, Default)]
pub struct HeadWriter {
    leader: String,
    current: v1::Head,
    version: Option<Version>,
    swap: Option<Swap>,
}

impl HeadWriter {
    /// For the JobManager of that name, which no other ever has.
    pub fn new(leader: String) -> Self {
        HeadWriter { leader, ..HeadWriter::default() }
    }

    /// HEAD as the store gave it.
    pub fn loaded(&mut self, found: Option<(v1::Head, Version)>) {
        if let Some((head, version)) = found {
            self.current = head;
            self.version = Some(version);
        }
    }

    /// HEAD as last known.
    pub fn current(&self) -> &v1::Head {
        &self.current
    }

    /// A swap is under way.
    pub fn busy(&self) -> bool {
        self.swap.is_some()
    }

    /// Starts a swap. There must be none under way.
    pub fn swap(&mut self, mut intended: v1::Head) -> StorageRequest {
        debug_assert!(self.swap.is_none(), "one swap of HEAD at a time");
        intended.leader_id.clone_from(&self.leader);
        let request = StorageRequest::SwapHead { head: intended.clone(), expected: self.version.clone() };
        self.swap = Some(Swap { intended, in_doubt: false, state: SwapState::Swapping });
        request
    }

    /// When to call [`HeadWriter::tick`].
    pub fn deadline(&self) -> Option<i64> {
        match self.swap.as_ref()?.state {
            SwapState::PausedUntil(time) => Some(time),
            _ => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: i64) -> Option<StorageRequest> {
        let swap = self.swap.as_mut()?;
        match swap.state {
            SwapState::PausedUntil(time) if time <= now => {
                swap.state = SwapState::ReadingBack;
                Some(StorageRequest::LoadHead)
            }
            _ => None,
        }
    }

    /// The answer to the call under way.
    pub fn on_reply(&mut self, reply: StorageReply, now: i64) -> HeadStep {
        let Some(swap) = self.swap.as_mut() else { return HeadStep::Wait };
        match reply {
            StorageReply::Swapped(Ok(version)) => self.done(Some(version), HeadOutcome::Swapped),
            StorageReply::Swapped(Err(StorageError::Conflict(_))) => {
                swap.state = SwapState::ReadingBack;
                HeadStep::Request(StorageRequest::LoadHead)
            }
            StorageReply::Swapped(Err(error @ (StorageError::Permanent(_) | StorageError::NotFound(_))))
                if !swap.in_doubt =>
            {
                self.done(None, HeadOutcome::Failed(error))
            }
            StorageReply::Head(Ok(found)) => self.read_back(found),
            _ => {
                swap.in_doubt = true;
                swap.state = SwapState::PausedUntil(now + RETRY_PAUSE_MS);
                HeadStep::Wait
            }
        }
    }

    fn read_back(&mut self, found: Option<(v1::Head, Version)>) -> HeadStep {
        let Some(swap) = self.swap.as_mut() else { return HeadStep::Wait };
        let (head, version) = found.map_or((None, None), |(head, version)| (Some(head), Some(version)));
        // Content tells whose write it was: it carries the leader's name, which is this JobManager's
        // alone. An epoch is not: two that have read the same HEAD claim it with the same one.
        if head.as_ref() == Some(&swap.intended) {
            self.done(version, HeadOutcome::Swapped)
        } else if version == self.version {
            swap.state = SwapState::Swapping;
            HeadStep::Request(StorageRequest::SwapHead { head: swap.intended.clone(), expected: version })
        } else {
            self.done(None, HeadOutcome::Deposed)
        }
    }

    fn done(&mut self, version: Option<Version>, outcome: HeadOutcome) -> HeadStep {
        if let Some(swap) = self.swap.take()
            && outcome == HeadOutcome::Swapped
        {
            self.current = swap.intended;
            self.version = version;
        }
        HeadStep::Done(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStore;

    fn head(epoch: u64) -> v1::Head {
        v1::Head { epoch, ..Default::default() }
    }

    fn lost() -> StorageReply {
        StorageReply::Swapped(Err(StorageError::Unavailable("no answer".into())))
    }

    /// Runs the writer against `store` until the swap ends.
    fn run(writer: &mut HeadWriter, store: &mut MemoryStore, first: StorageReply) -> HeadOutcome {
        let mut step = writer.on_reply(first, 0);
        for now in 0..10 {
            step = match step {
                HeadStep::Done(outcome) => return outcome,
                HeadStep::Request(request) => writer.on_reply(store.apply(&request), now * 1000),
                HeadStep::Wait => match writer.tick(now * 1000) {
                    Some(request) => HeadStep::Request(request),
                    None => HeadStep::Wait,
                },
            };
        }
        panic!("the swap does not end");
    }

    #[test]
    fn an_answer_that_was_lost_after_the_write_is_resolved_by_reading_back() {
        let (mut writer, mut store) = (HeadWriter::default(), MemoryStore::default());
        let request = writer.swap(head(1));
        store.apply(&request);
        assert_eq!(run(&mut writer, &mut store, lost()), HeadOutcome::Swapped);
        let request = writer.swap(head(2));
        let reply = store.apply(&request);
        assert_eq!(writer.on_reply(reply, 0), HeadStep::Done(HeadOutcome::Swapped));
    }

    #[test]
    fn a_write_that_was_lost_is_made_again() {
        let (mut writer, mut store) = (HeadWriter::default(), MemoryStore::default());
        writer.swap(head(1));
        assert_eq!(run(&mut writer, &mut store, lost()), HeadOutcome::Swapped);
        assert_eq!(store.head.unwrap().0, head(1));
    }

    #[test]
    fn a_late_first_write_does_not_depose_its_own_writer() {
        let (mut writer, mut store) = (HeadWriter::default(), MemoryStore::default());
        let late = writer.swap(head(1));
        assert_eq!(writer.on_reply(lost(), 0), HeadStep::Wait);
        let read = writer.tick(1000).unwrap();
        let HeadStep::Request(again) = writer.on_reply(store.apply(&read), 1000) else { panic!("no second swap") };
        store.apply(&late);
        let reply = store.apply(&again);
        assert_eq!(run(&mut writer, &mut store, reply), HeadOutcome::Swapped);
    }

    #[test]
    fn another_writer_deposes() {
        let (mut writer, mut store) = (HeadWriter::default(), MemoryStore::default());
        let request = writer.swap(head(1));
        store.apply(&StorageRequest::SwapHead { head: head(7), expected: None });
        let reply = store.apply(&request);
        assert_eq!(run(&mut writer, &mut store, reply), HeadOutcome::Deposed);
    }

    /// Both have read the same HEAD and claim it with the same epoch; the loser's answer is lost, or
    /// is a conflict, and what it reads back looks like its own but for the name.
    #[test]
    fn of_two_that_claim_the_same_epoch_one_is_deposed() {
        for answered in [true, false] {
            let mut store = MemoryStore::default();
            let [mut first, mut second] = ["a", "b"].map(|name| HeadWriter::new(name.to_owned()));
            let requests = [first.swap(head(1)), second.swap(head(1))];
            let reply = store.apply(&requests[0]);
            assert_eq!(first.on_reply(reply, 0), HeadStep::Done(HeadOutcome::Swapped));
            let reply = store.apply(&requests[1]);
            let reply = if answered { reply } else { lost() };
            assert_eq!(run(&mut second, &mut store, reply), HeadOutcome::Deposed);
            assert_eq!(store.head.unwrap().0.leader_id, "a");
        }
    }

    #[test]
    fn a_refusal_is_final_only_without_doubt() {
        let (mut writer, mut store) = (HeadWriter::default(), MemoryStore::default());
        let denied = || StorageReply::Swapped(Err(StorageError::Permanent("access denied".into())));
        let request = writer.swap(head(1));
        assert!(matches!(writer.on_reply(denied(), 0), HeadStep::Done(HeadOutcome::Failed(_))));
        let again = writer.swap(head(1));
        assert_eq!(request, again);
        assert_eq!(writer.on_reply(lost(), 0), HeadStep::Wait);
        let read = writer.tick(1000).unwrap();
        let reply = store.apply(&read);
        assert!(matches!(writer.on_reply(reply, 1000), HeadStep::Request(_)));
        assert_eq!(writer.on_reply(denied(), 1000), HeadStep::Wait);
    }
}
