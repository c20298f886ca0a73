//! Barriers of at-least-once checkpoints: counted, nothing waits for them.
//!
//! A channel that has delivered its barrier is read on, so the snapshot may contain rows from behind the
//! barrier, which come again after a restore. Several checkpoints may be under way at once.

use std::collections::BTreeMap;

use crate::element::Barrier;

/// How many checkpoints are counted at once, as in Flink.
const MOST: usize = 50;

#[derive(Debug)]
struct Tracked {
    barrier: Barrier,
    delivered: Vec<bool>,
    started_us: u64,
    /// Its barriers are still counted, so that none of them starts it anew.
    given_up: bool,
}

/// A checkpoint whose barriers are all there.
#[derive(Debug)]
pub(super) struct Counted {
    /// Its barrier.
    pub(super) barrier: Barrier,
    /// When the first one came, on the monotonic clock.
    pub(super) started_us: u64,
    /// Incomplete older ones, which are dropped.
    pub(super) older: Vec<u64>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    pending: BTreeMap<u64, Tracked>,
}

impl Tracker {
    /// Whether barriers of `checkpoint` are being counted.
    pub(super) fn holds(&self, checkpoint: u64) -> bool {
        self.pending.contains_key(&checkpoint)
    }

    /// Counts a barrier; gives the checkpoint that is dropped because there are too many.
    pub(super) fn barrier(
        &mut self,
        channel: Option<usize>,
        barrier: Barrier,
        channels: usize,
        now_us: u64,
    ) -> Option<u64> {
        let tracked = self.pending.entry(barrier.checkpoint).or_insert_with(|| Tracked {
            barrier,
            delivered: vec![false; channels],
            started_us: now_us,
            given_up: false,
        });
        if let Some(channel) = channel {
            tracked.delivered[channel] = true;
        }
        if self.pending.len() <= MOST {
            return None;
        }
        self.pending.pop_first().filter(|(_, tracked)| !tracked.given_up).map(|(id, _)| id)
    }

    /// Gives `checkpoint` up. False: it was already.
    pub(super) fn give_up(&mut self, checkpoint: u64) -> bool {
        self.pending.get_mut(&checkpoint).is_some_and(|tracked| !std::mem::replace(&mut tracked.given_up, true))
    }

    /// The newest checkpoint that all channels have delivered or that have ended, if there is one.
    pub(super) fn complete(&mut self, ended: &[bool]) -> Option<Counted> {
        let all = |t: &Tracked| t.delivered.iter().zip(ended).all(|(delivered, ended)| *delivered || *ended);
        self.pending.retain(|_, tracked| !tracked.given_up || !all(tracked));
        let checkpoint = *self.pending.iter().rev().find(|(_, tracked)| all(tracked))?.0;
        let tracked = self.pending.remove(&checkpoint)?;
        let newer = self.pending.split_off(&checkpoint);
        let older = std::mem::replace(&mut self.pending, newer);
        let older = older.into_iter().filter(|(_, tracked)| !tracked.given_up).map(|(id, _)| id).collect();
        Some(Counted { barrier: tracked.barrier, started_us: tracked.started_us, older })
    }
}
