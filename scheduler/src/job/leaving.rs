//! When a running job leaves TaskManagers that are to go, as a state machine that knows nothing of the
//! job but what the slots of now would allow.
//!
//! A first notice opens a window. A checkpoint is taken at once, and again for each TaskManager that
//! gets notice later. The job restarts elsewhere, once for all of them,
//!
//! | when | and |
//! | --- | --- |
//! | there are slots for all that it wants | the checkpoint is complete, or has failed |
//! | the window is over and there are slots for some | the same |
//! | the notice's time is nearly up | there is a completed checkpoint, whichever |
//!
//! Until then its tasks run on where they are. Without a completed checkpoint it stays: to restart it would
//! be to lose everything.

use std::collections::{BTreeMap, BTreeSet};

use super::adaptive::Possible;
use crate::slots::{Notice, SessionId};

/// Before the time of a notice, the job leaves with what it has.
const SAFETY_MS: i64 = 10_000;

/// The checkpoint taken because of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checkpoint {
    /// To be taken.
    Wanted,
    UnderWay(u64),
    Complete,
    Failed,
}

#[derive(Debug)]
struct Open {
    window_end_ms: i64,
    /// The job leaves then at the latest; `None`: no notice has a time.
    leave_by_ms: Option<i64>,
    sessions: BTreeSet<SessionId>,
    checkpoint: Checkpoint,
    /// Up to when everything was considered.
    decided_ms: i64,
    times: Times,
}

/// What has come of notices so far, for the report of the restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub notice_ms: i64,
    pub checkpoint: u64,
    pub triggered_ms: i64,
    pub completed_ms: i64,
    pub slots_ms: i64,
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Leaving {
    window_ms: u64,
    open: Option<Open>,
}

impl Leaving {
    /// Nothing to leave. `window_ms`: how long all that is wanted is waited for.
    pub fn new(window_ms: u64) -> Self {
        Leaving { window_ms, open: None }
    }

    /// There are TaskManagers to leave.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The TaskManagers that are to go and have tasks of the job, which runs.
    pub fn update(&mut self, notices: &BTreeMap<SessionId, Notice>, now: i64) {
        if notices.is_empty() {
            self.open = None;
            return;
        }
        let window_ms = i64::try_from(self.window_ms).unwrap_or(i64::MAX);
        let open = self.open.get_or_insert_with(|| {
            let since = notices.values().map(|notice| notice.since_ms).min().unwrap_or(now);
            Open {
                window_end_ms: now.saturating_add(window_ms),
                leave_by_ms: None,
                sessions: BTreeSet::new(),
                checkpoint: Checkpoint::Wanted,
                decided_ms: i64::MIN,
                times: Times { notice_ms: since, ..Times::default() },
            }
        });
        for (session, notice) in notices {
            if open.sessions.insert(*session) {
                // What it has worked out since the last one is to be in a checkpoint, too.
                open.checkpoint = Checkpoint::Wanted;
            }
            let leave_by = notice.deadline_ms.map(|deadline| {
                let safety = SAFETY_MS.min((deadline - notice.since_ms).max(0) / 4);
                deadline - safety
            });
            open.leave_by_ms = [open.leave_by_ms, leave_by].into_iter().flatten().min();
        }
        open.sessions.retain(|session| notices.contains_key(session));
    }

    /// A checkpoint is to be taken now.
    pub fn wants_checkpoint(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.checkpoint == Checkpoint::Wanted)
    }

    /// The checkpoint that was wanted has begun.
    pub fn triggered(&mut self, id: u64, now: i64) {
        if let Some(open) = self.open.as_mut().filter(|open| open.checkpoint == Checkpoint::Wanted) {
            open.checkpoint = Checkpoint::UnderWay(id);
            open.times = Times { checkpoint: id, triggered_ms: now, completed_ms: 0, ..open.times };
        }
    }

    /// A checkpoint is complete.
    pub fn completed(&mut self, id: u64, now: i64) {
        if let Some(open) = &mut self.open
            && matches!(open.checkpoint, Checkpoint::UnderWay(wanted) if wanted <= id)
        {
            open.checkpoint = Checkpoint::Complete;
            open.times = Times { checkpoint: id, completed_ms: now, ..open.times };
        }
    }

    /// A checkpoint has failed. With `retry` another one is wanted: nothing is complete yet, or it failed
    /// with the job's running.
    pub fn failed(&mut self, id: u64, retry: bool) {
        if let Some(open) = self.open.as_mut().filter(|open| open.checkpoint == Checkpoint::UnderWay(id)) {
            open.checkpoint = if retry { Checkpoint::Wanted } else { Checkpoint::Failed };
            open.times = Times { checkpoint: 0, triggered_ms: 0, ..open.times };
        }
    }

    /// Whether the job restarts now, given what the slots elsewhere allow.
    pub fn decide(&mut self, possible: Possible, now: i64) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.decided_ms = now;
        open.times.slots_ms = match (possible.desired, open.times.slots_ms) {
            (true, 0) => now,
            (true, since) => since,
            (false, _) => 0,
        };
        if open.leave_by_ms.is_some_and(|time| time <= now) {
            return true;
        }
        let settled = matches!(open.checkpoint, Checkpoint::Complete | Checkpoint::Failed);
        settled && (possible.desired || (possible.sufficient && open.window_end_ms <= now))
    }

    /// When [`Leaving::decide`] is to be asked again.
    pub fn deadline(&self) -> Option<i64> {
        let open = self.open.as_ref()?;
        [Some(open.window_end_ms), open.leave_by_ms].into_iter().flatten().filter(|time| *time > open.decided_ms).min()
    }

    /// The job restarts. What has come before.
    pub fn leave(&mut self) -> Times {
        self.open.take().map(|open| open.times).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Possible = Possible { desired: false, sufficient: false };
    const SOME: Possible = Possible { desired: false, sufficient: true };
    const ALL: Possible = Possible { desired: true, sufficient: true };

    fn notices(of: &[(u64, i64, Option<i64>)]) -> BTreeMap<SessionId, Notice> {
        let notice = |(session, since_ms, deadline_ms): &(u64, i64, Option<i64>)| {
            let notice = Notice { source: "test".into(), since_ms: *since_ms, deadline_ms: *deadline_ms };
            (SessionId(*session), notice)
        };
        of.iter().map(notice).collect()
    }

    /// A window of 60 s, a first notice at 1 s.
    fn noticed(deadline_ms: Option<i64>) -> Leaving {
        let mut leaving = Leaving::new(60_000);
        leaving.update(&notices(&[(1, 1_000, deadline_ms)]), 1_000);
        leaving
    }

    #[test]
    fn all_that_is_wanted_is_taken_once_the_checkpoint_is_complete() {
        let mut leaving = noticed(None);
        assert!(leaving.wants_checkpoint() && !leaving.decide(ALL, 1_000));
        leaving.triggered(7, 1_100);
        leaving.completed(6, 1_150);
        assert!(!leaving.wants_checkpoint() && !leaving.decide(ALL, 1_200), "an earlier one has not all that is there");
        leaving.completed(7, 1_300);
        assert!(leaving.decide(ALL, 1_300));
        let times =
            Times { notice_ms: 1_000, checkpoint: 7, triggered_ms: 1_100, completed_ms: 1_300, slots_ms: 1_000 };
        assert_eq!(leaving.leave(), times);
        assert!(!leaving.is_open());
    }

    #[test]
    fn less_is_taken_at_the_end_of_the_window_only() {
        let mut leaving = noticed(None);
        leaving.triggered(7, 1_000);
        leaving.completed(7, 2_000);
        assert!(!leaving.decide(SOME, 2_000));
        assert_eq!(leaving.deadline(), Some(61_000));
        assert!(!leaving.decide(NOTHING, 61_000), "it runs on where it is");
        assert_eq!(leaving.deadline(), None);
        assert!(leaving.decide(SOME, 99_000));
    }

    #[test]
    fn a_second_notice_wants_another_checkpoint_and_no_other_window() {
        let mut leaving = noticed(None);
        leaving.triggered(7, 1_000);
        leaving.completed(7, 2_000);
        leaving.update(&notices(&[(1, 1_000, None), (2, 30_000, None)]), 30_000);
        leaving.update(&notices(&[(1, 1_000, None), (2, 30_000, None)]), 31_000);
        assert!(leaving.wants_checkpoint() && !leaving.decide(ALL, 31_000));
        leaving.triggered(8, 31_000);
        leaving.completed(8, 32_000);
        assert!(leaving.decide(SOME, 61_000), "the window is that of the first");
    }

    #[test]
    fn the_time_of_a_notice_comes_before_everything() {
        let mut leaving = noticed(Some(121_000));
        assert!(!leaving.decide(NOTHING, 110_999));
        assert_eq!(leaving.deadline(), Some(111_000));
        assert!(leaving.decide(NOTHING, 111_000), "ten seconds before");
        assert_eq!(leaving.deadline(), None, "it stays for want of a checkpoint");
        let mut leaving = noticed(Some(5_000));
        assert!(!leaving.decide(NOTHING, 3_999) && leaving.decide(NOTHING, 4_000), "of a short time, a quarter before");
    }

    #[test]
    fn a_failed_checkpoint_is_not_waited_for_unless_there_is_none() {
        let mut leaving = noticed(None);
        leaving.triggered(7, 1_000);
        leaving.failed(6, false);
        assert!(!leaving.decide(ALL, 1_000));
        leaving.failed(7, true);
        assert!(leaving.wants_checkpoint());
        leaving.triggered(8, 2_000);
        leaving.failed(8, false);
        assert!(!leaving.wants_checkpoint() && leaving.decide(ALL, 2_000));
    }

    #[test]
    fn what_needs_not_be_left_any_more_is_forgotten() {
        let mut leaving = noticed(Some(9_000));
        leaving.update(&BTreeMap::new(), 2_000);
        assert!(!leaving.is_open() && !leaving.decide(ALL, 100_000));
        assert_eq!(leaving.deadline(), None);
    }
}
