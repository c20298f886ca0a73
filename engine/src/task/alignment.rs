//! Barriers of several channels: when a task's inputs have all reached the same checkpoint.
//!
//! Of an aligned checkpoint a channel that has delivered the barrier is blocked until the others have.
//! An unaligned one begins with the first barrier and blocks none: what comes through the others until
//! theirs is in flight. An aligned one may become unaligned when its timeout has passed. At most one
//! checkpoint is pending: a newer barrier gives the older one up. At least once is another matter: such
//! barriers are only counted ([`super::tracking`]).

use std::collections::BTreeSet;

use super::tracking::Tracker;
use crate::element::Barrier;

/// How many aborted checkpoints that were not yet seen are remembered.
const REMEMBERED_ABORTS: usize = 64;

#[derive(Debug)]
struct Pending {
    barrier: Barrier,
    aligned: Vec<bool>,
    started_us: u64,
}

/// What follows from an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Checkpoints that this task gives up, with the reason.
    pub declined: Vec<(u64, &'static str)>,
    /// Checkpoints whose cancellation goes downstream.
    pub cancel_downstream: Vec<u64>,
    /// The first barrier of an unaligned checkpoint is there.
    pub begins: Option<Barrier>,
    /// All channels are at this barrier; how long the first waited, in microseconds.
    pub complete: Option<(Barrier, u64)>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Alignment {
    ended: Vec<bool>,
    pending: Option<Pending>,
    /// The highest checkpoint that was completed or given up here.
    last: u64,
    aborted: BTreeSet<u64>,
    tracker: Tracker,
}

impl Alignment {
    /// For a task of `channels` input channels.
    pub fn new(channels: usize) -> Alignment {
        Alignment {
            ended: vec![false; channels],
            pending: None,
            last: 0,
            aborted: BTreeSet::new(),
            tracker: Tracker::default(),
        }
    }

    /// Whether `channel` must not be read because it is ahead of others.
    pub fn is_blocked(&self, channel: usize) -> bool {
        self.pending.as_ref().is_some_and(|p| p.aligned[channel] && !p.barrier.unaligned)
    }

    /// Whether what comes through `channel` now was overtaken by the pending barrier.
    pub fn is_overtaken(&self, channel: usize) -> bool {
        self.pending.as_ref().is_some_and(|p| p.barrier.unaligned && !p.aligned[channel])
    }

    /// When the pending barrier, which began aligned, overtakes rows, in ms since 1970.
    pub fn expires_at_ms(&self) -> Option<i64> {
        self.pending.as_ref().and_then(|p| p.barrier.overtakes_at_ms())
    }

    /// If that moment has come, the checkpoint goes on as an unaligned one.
    pub fn expire(&mut self, now_ms: i64) -> Verdict {
        let mut verdict = Verdict::default();
        if self.pending.as_ref().is_some_and(|p| p.barrier.is_late(now_ms)) {
            self.overtake(&mut verdict);
        }
        verdict
    }

    fn overtake(&mut self, verdict: &mut Verdict) {
        if let Some(pending) = self.pending.as_mut().filter(|p| !p.barrier.unaligned) {
            pending.barrier.unaligned = true;
            verdict.begins = Some(pending.barrier.clone());
        }
    }

    /// The checkpoint that waits for channels.
    pub fn pending(&self) -> Option<u64> {
        self.pending.as_ref().map(|p| p.barrier.checkpoint)
    }

    /// A barrier came in on `channel`.
    pub fn barrier(&mut self, channel: usize, barrier: Barrier, now_us: u64) -> Verdict {
        if barrier.at_least_once {
            return self.track(Some(channel), barrier, now_us);
        }
        let mut verdict = Verdict::default();
        if self.start(barrier, now_us, &mut verdict)
            && let Some(pending) = &mut self.pending
        {
            pending.aligned[channel] = true;
        }
        self.settle(now_us, &mut verdict);
        verdict
    }

    /// The JobManager triggered a task whose producers have all finished: channels count as aligned
    /// when their end is reached.
    pub fn trigger(&mut self, barrier: Barrier, now_us: u64) -> Verdict {
        if barrier.at_least_once {
            return self.track(None, barrier, now_us);
        }
        let mut verdict = Verdict::default();
        self.start(barrier, now_us, &mut verdict);
        self.settle(now_us, &mut verdict);
        verdict
    }

    /// `channel` has ended.
    pub fn end_of_partition(&mut self, channel: usize, now_us: u64) -> Verdict {
        self.ended[channel] = true;
        let mut verdict = Verdict::default();
        self.settle(now_us, &mut verdict);
        self.settle_tracked(now_us, &mut verdict);
        verdict
    }

    /// A producer gave up `checkpoint` before its snapshot.
    pub fn cancelled_upstream(&mut self, checkpoint: u64) -> Verdict {
        let mut verdict = Verdict::default();
        if self.tracker.holds(checkpoint) {
            if self.tracker.give_up(checkpoint) {
                verdict.declined.push((checkpoint, "received the cancellation of a producer"));
                verdict.cancel_downstream.push(checkpoint);
            }
            return verdict;
        }
        let pending = self.pending();
        if checkpoint > self.last && pending.is_none_or(|p| checkpoint >= p) {
            if let Some(older) = pending.filter(|&p| p < checkpoint) {
                verdict.declined.push((older, "subsumed by a newer checkpoint"));
            }
            verdict.declined.push((checkpoint, "received the cancellation of a producer"));
            verdict.cancel_downstream.push(checkpoint);
            self.pending = None;
            self.last = checkpoint;
        }
        verdict
    }

    /// The JobManager gave up `checkpoint`.
    pub fn aborted(&mut self, checkpoint: u64) -> Verdict {
        let mut verdict = Verdict::default();
        if checkpoint <= self.last {
            return verdict;
        }
        if self.pending() == Some(checkpoint) {
            self.pending = None;
            self.last = checkpoint;
            verdict.cancel_downstream.push(checkpoint);
        } else if self.tracker.holds(checkpoint) {
            if self.tracker.give_up(checkpoint) {
                verdict.cancel_downstream.push(checkpoint);
            }
        } else {
            self.aborted.insert(checkpoint);
            if self.aborted.len() > REMEMBERED_ABORTS {
                self.aborted.pop_first();
            }
        }
        verdict
    }

    /// A barrier that blocks nothing came in on `channel`, or none will come.
    fn track(&mut self, channel: Option<usize>, barrier: Barrier, now_us: u64) -> Verdict {
        let mut verdict = Verdict::default();
        let checkpoint = barrier.checkpoint;
        if checkpoint <= self.last {
            return verdict;
        }
        if let Some(dropped) = self.tracker.barrier(channel, barrier, self.ended.len(), now_us) {
            verdict.declined.push((dropped, "too many newer checkpoints are under way"));
        }
        if self.aborted.remove(&checkpoint) && self.tracker.give_up(checkpoint) {
            verdict.cancel_downstream.push(checkpoint);
        }
        self.settle_tracked(now_us, &mut verdict);
        verdict
    }

    fn settle_tracked(&mut self, now_us: u64, verdict: &mut Verdict) {
        let Some(done) = self.tracker.complete(&self.ended) else { return };
        self.last = self.last.max(done.barrier.checkpoint);
        self.aborted = self.aborted.split_off(&self.last);
        verdict.declined.extend(done.older.into_iter().map(|id| (id, "subsumed by a newer checkpoint")));
        verdict.complete = Some((done.barrier, now_us.saturating_sub(done.started_us)));
    }

    /// Whether the barrier's checkpoint is pending afterwards.
    fn start(&mut self, barrier: Barrier, now_us: u64, verdict: &mut Verdict) -> bool {
        let checkpoint = barrier.checkpoint;
        if checkpoint <= self.last {
            return false;
        }
        match self.pending() {
            Some(pending) if pending == checkpoint => {
                if barrier.unaligned {
                    self.overtake(verdict);
                }
                return true;
            }
            Some(pending) if pending > checkpoint => return false,
            Some(pending) => {
                verdict.declined.push((pending, "subsumed by a newer checkpoint"));
                self.last = pending;
            }
            None => {}
        }
        self.pending = None;
        if self.aborted.remove(&checkpoint) {
            self.last = checkpoint;
            verdict.cancel_downstream.push(checkpoint);
            return false;
        }
        if barrier.unaligned {
            verdict.begins = Some(barrier.clone());
        }
        self.pending = Some(Pending { barrier, aligned: vec![false; self.ended.len()], started_us: now_us });
        true
    }

    fn settle(&mut self, now_us: u64, verdict: &mut Verdict) {
        let all = |p: &Pending| p.aligned.iter().zip(&self.ended).all(|(aligned, ended)| *aligned || *ended);
        if self.pending.as_ref().is_some_and(all)
            && let Some(pending) = self.pending.take()
        {
            self.last = pending.barrier.checkpoint;
            self.aborted = self.aborted.split_off(&self.last);
            verdict.complete = Some((pending.barrier, now_us.saturating_sub(pending.started_us)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(checkpoint: u64) -> Barrier {
        Barrier { checkpoint, ..Barrier::default() }
    }

    fn completed(verdict: &Verdict) -> Option<u64> {
        verdict.complete.as_ref().map(|(b, _)| b.checkpoint)
    }

    #[test]
    fn the_first_channel_waits_for_the_second() {
        let mut alignment = Alignment::new(2);
        assert_eq!(alignment.barrier(0, barrier(1), 10), Verdict::default());
        assert!(alignment.is_blocked(0) && !alignment.is_blocked(1));
        let verdict = alignment.barrier(1, barrier(1), 25);
        assert_eq!(verdict.complete, Some((barrier(1), 15)));
        assert!(!alignment.is_blocked(0));
        // Again, or older: nothing.
        assert_eq!(alignment.barrier(0, barrier(1), 30), Verdict::default());
        assert!(!alignment.is_blocked(0));
    }

    #[test]
    fn a_newer_barrier_gives_the_pending_one_up() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(0, barrier(1), 0);
        let verdict = alignment.barrier(1, barrier(2), 0);
        assert_eq!(verdict.declined, [(1, "subsumed by a newer checkpoint")]);
        assert!(!alignment.is_blocked(0) && alignment.is_blocked(1));
        assert_eq!(completed(&alignment.barrier(0, barrier(2), 0)), Some(2));
    }

    #[test]
    fn the_end_of_a_channel_counts_as_its_barrier() {
        let mut alignment = Alignment::new(3);
        alignment.end_of_partition(0, 0);
        alignment.barrier(1, barrier(1), 0);
        assert_eq!(completed(&alignment.end_of_partition(2, 0)), Some(1));
    }

    #[test]
    fn a_cancellation_unblocks_and_goes_on_once() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(0, barrier(1), 0);
        let verdict = alignment.cancelled_upstream(1);
        assert_eq!(verdict.cancel_downstream, [1]);
        assert_eq!(verdict.declined.len(), 1);
        assert!(!alignment.is_blocked(0));
        assert_eq!(alignment.cancelled_upstream(1), Verdict::default());
        assert_eq!(alignment.barrier(1, barrier(1), 0), Verdict::default());
    }

    #[test]
    fn an_abort_before_the_barrier_cancels_it_when_it_comes() {
        let mut alignment = Alignment::new(1);
        assert_eq!(alignment.aborted(1), Verdict::default());
        let verdict = alignment.barrier(0, barrier(1), 0);
        assert_eq!((verdict.complete, verdict.cancel_downstream), (None, vec![1]));
        assert_eq!(completed(&alignment.barrier(0, barrier(2), 0)), Some(2));
    }

    fn overtaking(checkpoint: u64) -> Barrier {
        Barrier { unaligned: true, ..barrier(checkpoint) }
    }

    #[test]
    fn an_unaligned_checkpoint_begins_at_once_and_blocks_no_channel() {
        let mut alignment = Alignment::new(3);
        alignment.end_of_partition(2, 0);
        let verdict = alignment.barrier(0, overtaking(1), 10);
        assert_eq!((verdict.begins, verdict.complete), (Some(overtaking(1)), None));
        assert!(!alignment.is_blocked(0) && !alignment.is_blocked(1));
        assert!(!alignment.is_overtaken(0) && alignment.is_overtaken(1));
        let verdict = alignment.barrier(1, overtaking(1), 30);
        assert_eq!((verdict.begins, verdict.complete), (None, Some((overtaking(1), 20))));
        assert!(!alignment.is_overtaken(1));
    }

    fn timed(checkpoint: u64) -> Barrier {
        Barrier { timestamp_ms: 1_000, aligned_timeout_ms: 50, ..barrier(checkpoint) }
    }

    #[test]
    fn an_aligned_checkpoint_becomes_unaligned_when_its_timeout_has_passed() {
        let mut alignment = Alignment::new(3);
        assert_eq!(alignment.barrier(0, timed(1), 0), Verdict::default());
        assert!(alignment.is_blocked(0));
        assert_eq!(alignment.expires_at_ms(), Some(1_050));
        assert_eq!(alignment.expire(1_049), Verdict::default());
        let verdict = alignment.expire(1_050);
        assert_eq!((verdict.begins, verdict.complete), (Some(timed(1).overtaking()), None));
        assert!(!alignment.is_blocked(0) && !alignment.is_overtaken(0) && alignment.is_overtaken(1));
        assert_eq!((alignment.expires_at_ms(), alignment.expire(2_000)), (None, Verdict::default()));
        // Whatever form the others have.
        alignment.barrier(1, timed(1), 0);
        let verdict = alignment.barrier(2, timed(1).overtaking(), 7);
        assert_eq!((verdict.begins, verdict.complete), (None, Some((timed(1).overtaking(), 7))));
    }

    #[test]
    fn a_barrier_that_overtakes_makes_the_aligned_checkpoint_unaligned() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(0, timed(1), 0);
        let verdict = alignment.barrier(1, timed(1).overtaking(), 0);
        assert_eq!(verdict.begins, Some(timed(1).overtaking()));
        assert_eq!(verdict.complete, Some((timed(1).overtaking(), 0)));
    }

    fn counted(checkpoint: u64) -> Barrier {
        Barrier { at_least_once: true, ..barrier(checkpoint) }
    }

    #[test]
    fn at_least_once_blocks_nothing_and_counts_several_checkpoints() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(0, counted(1), 0);
        assert_eq!(alignment.barrier(0, counted(2), 0), Verdict::default());
        assert!(!alignment.is_blocked(0) && !alignment.is_overtaken(1));
        assert_eq!(completed(&alignment.barrier(1, counted(1), 0)), Some(1));
        assert_eq!(completed(&alignment.barrier(1, counted(2), 0)), Some(2));
        // One that is incomplete is given up with the completion of a newer one.
        alignment.barrier(0, counted(3), 0);
        alignment.barrier(0, counted(4), 0);
        let verdict = alignment.barrier(1, counted(4), 0);
        assert_eq!((completed(&verdict), verdict.declined.len()), (Some(4), 1));
        assert_eq!(alignment.barrier(1, counted(3), 0), Verdict::default());
    }

    #[test]
    fn at_least_once_knows_ends_and_aborts() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(0, counted(1), 0);
        assert_eq!(alignment.aborted(1).cancel_downstream, [1]);
        assert_eq!(alignment.barrier(1, counted(1), 0), Verdict::default(), "it was given up");
        assert_eq!(alignment.aborted(2), Verdict::default());
        assert_eq!(alignment.barrier(0, counted(2), 0).cancel_downstream, [2]);
        assert_eq!(alignment.barrier(1, counted(2), 0), Verdict::default());
        alignment.barrier(0, counted(3), 0);
        assert_eq!(alignment.cancelled_upstream(3).cancel_downstream, [3]);
        assert_eq!(alignment.cancelled_upstream(3), Verdict::default());
        alignment.barrier(0, counted(4), 0);
        assert_eq!(completed(&alignment.end_of_partition(1, 0)), Some(4));
        assert_eq!(completed(&alignment.trigger(counted(5), 0)), None);
        assert_eq!(completed(&alignment.end_of_partition(0, 0)), Some(5));
    }

    #[test]
    fn an_aligned_savepoint_may_follow_an_unaligned_checkpoint() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(0, overtaking(1), 0);
        let verdict = alignment.barrier(0, barrier(2), 0);
        assert_eq!(verdict.declined, [(1, "subsumed by a newer checkpoint")]);
        assert!(alignment.is_blocked(0) && !alignment.is_overtaken(1));
        // The older barrier is still on its way through the other channel.
        assert_eq!(alignment.barrier(1, overtaking(1), 0), Verdict::default());
        assert_eq!(completed(&alignment.barrier(1, barrier(2), 0)), Some(2));
    }

    #[test]
    fn a_task_with_finished_producers_is_triggered_directly() {
        let mut alignment = Alignment::new(2);
        alignment.end_of_partition(0, 0);
        assert_eq!(completed(&alignment.trigger(barrier(4), 0)), None);
        assert_eq!(completed(&alignment.end_of_partition(1, 0)), Some(4));
        assert_eq!(completed(&alignment.trigger(barrier(5), 0)), Some(5));
    }
}
